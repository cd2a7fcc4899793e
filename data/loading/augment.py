"""Random changes to training samples: geometry on image, mask and depth alike, photometry on the image alone.

albumentations stays behind this file, and is imported only when an `Augment` is built.
"""

import dataclasses
import os
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt64

from data.pack.pack import RawBatch

ROTATION_DEG = 10  # the original study's limit
BLUR_PX = (3, 5)  # sides of the averaging window
TARGETS = {"mask": "image", "depth": "mask"}  # a soft mask is interpolated, depth with its unknowns is not
BRIGHTNESS = 0.2  # largest change of brightness and of contrast, as a share


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Probability in [0, 1] of each change to a sample.

    Attributes:
        flip: Mirror left and right.
        rotate: Turn by up to 10 degrees either way.
        grid_distortion: Bend by a 5 x 5 grid.
        blur: Average over 3 or 5 pixels.
        brightness_contrast: Change both by up to a fifth.
        grayscale: Take the colour away.
    """

    flip: float = 0.5
    rotate: float = 0.0
    grid_distortion: float = 0.0
    blur: float = 0.0
    brightness_contrast: float = 0.0
    grayscale: float = 0.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"augment/{name} is {value}; a probability lies within 0 and 1")


class Augment:
    """Changes samples at random, each by its own seed, so that neither batch size nor worker matters.

    Args:
        config: Which changes, how often.
    """

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config
        self._py_random = random.Random(0)  # the kind albumentations draws from
        self._bits = np.random.PCG64(0)
        self._state: Any = self._bits.state
        self._geometry = self._ready(_geometry(config))
        self._photometry = self._ready(_photometry(config))

    def __call__(self, batch: RawBatch, rng: np.random.Generator) -> RawBatch:
        """Change a batch.

        Args:
            batch: Samples as packed; left as it is.
            rng: Gives one seed a sample.

        Returns:
            New samples of the same shapes. Borders are filled by reflection, unknown depth stays unknown.
        """
        copy = RawBatch(batch.image.copy(), batch.mask.copy(), batch.depth.copy(), batch.mask_known)
        return self.change(copy, rng.integers(2**63, size=len(batch), dtype=np.uint64))

    def change(self, batch: RawBatch, seeds: UInt64[np.ndarray, " b"]) -> RawBatch:
        """Change a batch in place, each sample by its own seed.

        Args:
            batch: Samples as packed; overwritten.
            seeds: One a sample; the same seed changes the same sample in the same way.

        Returns:
            The batch given.
        """
        image, mask, depth = batch.image, batch.mask, batch.depth
        for i, seed in enumerate(seeds.tolist()):
            self._seed(seed)
            if self._geometry:
                changed = self._geometry(image=image[i], mask=mask[i], depth=depth[i])
                image[i], mask[i], depth[i] = changed["image"], changed["mask"], changed["depth"]
            if self._photometry:
                image[i] = self._photometry(image=image[i])["image"]
        return batch

    def _ready(self, group: Any) -> Any:
        """One pair of generators for all transforms: alike seeds of their own would tie them together."""
        if group is not None:
            group.set_random_state(np.random.Generator(self._bits), self._py_random)
        return group

    def _seed(self, seed: int) -> None:
        """Set both generators; 4 times faster than `Compose.set_random_seed`, which makes new ones."""
        self._py_random.seed(seed)
        self._state["state"]["state"] = seed * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128
        self._bits.state = self._state


def _geometry(config: AugmentConfig) -> Any:
    """The group for image, mask and depth; None where nothing of it is asked for."""
    if not (config.flip or config.rotate or config.grid_distortion):
        return None
    a = _albumentations()
    reflect = {"border_mode": 4, "mask_interpolation": 0}  # cv2.BORDER_REFLECT_101, cv2.INTER_NEAREST
    transforms = [
        a.HorizontalFlip(p=config.flip),
        a.Rotate(limit=ROTATION_DEG, p=config.rotate, **reflect),
        a.GridDistortion(p=config.grid_distortion, **reflect),
    ]
    return a.Compose([t for t in transforms if t.p > 0], additional_targets=TARGETS)


def _photometry(config: AugmentConfig) -> Any:
    """The group for the image alone; None where nothing of it is asked for."""
    if not (config.blur or config.brightness_contrast or config.grayscale):
        return None
    a = _albumentations()
    transforms = [
        a.RandomBrightnessContrast(BRIGHTNESS, BRIGHTNESS, p=config.brightness_contrast),
        a.ToGray(p=config.grayscale),
        a.Blur(BLUR_PX, p=config.blur),
    ]
    return a.Compose([t for t in transforms if t.p > 0])


def _albumentations() -> Any:
    """The module, kept from asking the network for its newest version."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations  # seconds; not needed for --help

    return albumentations
