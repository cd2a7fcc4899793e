"""data/compose."""
