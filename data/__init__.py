"""Data sets: from folders of image, mask and depth files to batches of tensors; also checks and composes them."""

from data.dataset import DataError, Dataset, DatasetSpec, Triplet

__all__ = ["DataError", "Dataset", "DatasetSpec", "Triplet"]
