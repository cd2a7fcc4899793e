"""The configuration of a run: options, budget, stages and constraints, and the configurations of its trials."""
