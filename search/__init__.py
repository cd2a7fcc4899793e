"""Search for a network: configurations, stages, the training loop and the Optuna study, run by Ray Tune."""
