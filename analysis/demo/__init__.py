"""analysis/demo."""
