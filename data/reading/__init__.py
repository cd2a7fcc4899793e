"""Read data set folders: find triplets and their backgrounds, split them, decode files into arrays."""

from data.reading.decode import decode_triplet, read_image
from data.reading.layout import read_dataset
from data.reading.splits import Splits, split_by_background

__all__ = ["Splits", "decode_triplet", "read_dataset", "read_image", "split_by_background"]
