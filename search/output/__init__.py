"""search/output."""
