"""Train a recorded trial again: `one-look reproduce RUN TRIAL`."""
