"""analysis/runs."""
