"""Check of a data set folder: finds faults of its files, infers what dataset.json should say, writes a fixed copy."""
