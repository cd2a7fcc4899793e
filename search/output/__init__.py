"""The results of a run: selection of the best trials, and model folders with their model card."""
