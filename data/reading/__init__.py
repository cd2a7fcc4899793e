"""Read data set folders: find triplets and backgrounds, read manifest.csv and dataset.json, split by background."""

from data.reading.layout import read_dataset
from data.reading.splits import Splits, split_by_background

__all__ = ["Splits", "read_dataset", "split_by_background"]
