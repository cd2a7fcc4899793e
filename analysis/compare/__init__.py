"""analysis/compare."""
