"""The search: configurations, the training loop, the ladder, and the study that Ray runs."""
