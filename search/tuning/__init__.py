"""search/tuning."""
