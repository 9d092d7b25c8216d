"""What is to stand at AWS so that events reach the daemon: decided here, without asking or changing anything."""
