"""The Optuna study of a run: search space, sampler, journal file, reconciliation and Optuna's dashboard."""
