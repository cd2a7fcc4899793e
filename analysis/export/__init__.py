"""analysis/export."""
