"""Predict foreground and depth of a user's photos and write the images to a folder.

Import `PhotoPredictor` from `analysis.predict.predict`; `Photo`, `find_photos` and `read_photo` need no torch.
"""

from analysis.predict.photos import Photo, RGBImage, UnreadableError, find_photos, read_photo

__all__ = ["Photo", "RGBImage", "UnreadableError", "find_photos", "read_photo"]
