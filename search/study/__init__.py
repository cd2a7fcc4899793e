"""search/study."""
