"""Read run folders as pandas frames, whether the run is finished, running or cut off.

Import from `run` (`read_run`), `tables`, `curves` and `importance`. Nothing is re-exported here: importing pandas and
Optuna takes seconds.
"""
