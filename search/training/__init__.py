"""search/training."""
