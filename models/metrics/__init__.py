"""models/metrics."""
