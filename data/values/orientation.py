"""Turn images, masks and depth maps by EXIF orientations."""

import numpy as np


def apply_orientation(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels as an EXIF orientation requires, so that the image is upright."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def undo_orientation(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Invert `apply_orientation`."""
    return apply_orientation(pixels, {6: 8, 8: 6}.get(orientation, orientation))


def pick_orientation(label: tuple[int, ...], own: int, image: tuple[int, ...], orientation: int) -> int:
    """Return the orientation by which a label must be turned to be upright: its own or, if it has none, the image's.

    A label without an orientation may also be upright already. Its shape decides; if both fit, it is turned. `label`
    and `image` are shapes as stored, `own` and `orientation` their EXIF orientations, 1 for none.
    """
    (height, width), (rows, columns) = image[:2], label[:2]
    lies_as_stored = orientation <= 4 or (width - height) * (columns - rows) >= 0
    return orientation if own == 1 and lies_as_stored else own


def is_orientation_unclear(label: np.ndarray, own: int, orientation: int) -> bool:
    """Return True if neither shape nor EXIF orientation of a label shows whether it is upright already."""
    return own == 1 != orientation and (orientation <= 4 or label.shape[0] == label.shape[1])
