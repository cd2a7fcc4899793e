"""The Optuna study of a run: search space, sampler, journal file, resumption and Optuna's dashboard.

Nothing is re-exported here, because nearly every module imports Optuna; import from `search.study.space`, `.sampler`,
`.journal`, `.reconcile` and `.dashboard`.
"""
