"""Train a recorded trial again: `one-look reproduce RUN TRIAL_ID`.

Import from `search.reproduce.reproduce`; nothing is re-exported here, because importing torch takes seconds.
"""
