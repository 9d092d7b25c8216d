"""Values and decisions: no clock, no chance, no I/O, no vendor."""
