"""Data sets: from folders of image, mask and depth files to batches of tensors; also checks, composes and draws them.

Import from the modules: `data.dataset` (types), `data.data_module` (the data of each stage).
"""

from data.dataset import DataError, Dataset, DatasetSpec, Triplet

__all__ = ["DataError", "Dataset", "DatasetSpec", "Triplet"]
