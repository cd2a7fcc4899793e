"""The search: configurations, the training loop, the stages, and the study that Ray runs."""
