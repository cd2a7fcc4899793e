"""Read run folders as pandas frames, whether the run is finished, running or cut off.

Import from `run` (`read_run`), `tables`, `curves` and `importance`; nothing is imported here, because pandas
and Optuna take seconds.
"""
