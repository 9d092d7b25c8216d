"""What the services need of the outside world: one Protocol with its values and its error per module."""
