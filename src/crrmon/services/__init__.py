"""The loops of the daemon, over ports and domain only."""
