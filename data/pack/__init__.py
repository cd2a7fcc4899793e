"""data/pack."""
