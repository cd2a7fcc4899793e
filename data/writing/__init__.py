"""data/writing."""
