"""data/reading."""
