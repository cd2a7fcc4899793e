"""search/budget."""
