"""analysis/predict."""
