"""Read data set folders: find triplets and backgrounds, read manifest.csv and dataset.json, split by background."""
