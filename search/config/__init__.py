"""search/config."""
