"""data/check."""
