"""Read the files of a triplet as what their values mean: decode formats, masks and depth; infer what is not stated."""

from data.values.decode import decode_triplet, read_image

__all__ = ["decode_triplet", "read_image"]
