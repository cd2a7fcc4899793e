"""data/runtime."""
