"""analysis/plots."""
