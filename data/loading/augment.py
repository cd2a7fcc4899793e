"""Random changes to training samples: geometry, photometry, and copy-paste of other samples' foregrounds.

Only this module uses albumentations, and imports it when an `Augment` is built.
"""

import dataclasses
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt16, UInt64

from data.pack.pack import Pack, RawBatch
from models.config import PlainConfig

ROTATION_DEG = 10  # the original study's limit
BLUR_PX = (3, 5)  # sides of the averaging window
# A soft mask is interpolated; depth, which has holes, is not.
TARGETS = {"mask": "image", "depth": "mask", "mask_valid": "mask"}
ZOOM = (0.8, 1.8)  # size along each axis, relative to the original
ZOOM_SHIFT = (-0.1, 0.1)  # as a share of the side
HUE, SATURATION = 20, 40  # largest shifts, of 180 and of 255
BRIGHTNESS = 0.2  # largest change of brightness and of contrast, as a share
REFLECT = {"border_mode": 4, "mask_interpolation": 0}  # cv2.BORDER_REFLECT_101, cv2.INTER_NEAREST
PASTE_SCALE = (0.6, 1.4)  # scale factors of the pasted foreground
PASTE_ROTATION_DEG = 15
PASTE_SHIFT = 0.3  # largest shift along each axis, as a share of the side
PASTE_NEAREST = 95  # percentile of the covered inverse depth at which a pasted foreground is put
PASTE_OPAQUE = 128  # mask value from which a pasted pixel keeps its depth
PASTE_STREAM = 1  # separates these draws from those of the other augmentations, which use the same seed
PASTE_DRAWS = 7  # chosen or not, source, flip, scale, angle, shift to the right, shift downwards


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(PlainConfig):
    """Probability in [0, 1] of each change to a sample; the search suggests them in this order."""

    flip: float = 0.5  # mirror left and right
    rotate: float = 0.0  # rotate by up to 10 degrees either way
    grid_distortion: float = 0.0  # bend by a 5 x 5 grid
    blur: float = 0.0  # average over 3 or 5 pixels
    brightness_contrast: float = 0.0  # change both by up to a fifth
    grayscale: float = 0.0  # remove the colour
    copy_paste: float = 0.0  # paste another sample's foreground at the nearest depth that it covers
    zoom: float = 0.0  # scale each axis by 0.8 to 1.8 about the centre, and shift by up to a tenth
    hue_saturation: float = 0.0  # shift the hue by up to 40 degrees and the saturation by up to a sixth

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"augment/{name} is {value}; a probability lies within 0 and 1")


@dataclass(frozen=True)
class Augmentation:
    """One kind of change."""

    build: Callable[[Any, float], Any]  # makes the transform from the albumentations module and the probability
    search_at: float  # probability that the search tries besides 0


GEOMETRY = {  # in the order of application; probabilities are those of the study where it used the change
    "flip": Augmentation(lambda a, p: a.HorizontalFlip(p=p), search_at=0.5),
    "rotate": Augmentation(lambda a, p: a.Rotate(limit=ROTATION_DEG, p=p, **REFLECT), search_at=0.3),
    "zoom": Augmentation(lambda a, p: a.Affine(ZOOM, ZOOM_SHIFT, p=p, **REFLECT), search_at=0.5),
    "grid_distortion": Augmentation(lambda a, p: a.GridDistortion(p=p, **REFLECT), search_at=0.3),
}
PHOTOMETRY = {
    "brightness_contrast": Augmentation(
        lambda a, p: a.RandomBrightnessContrast(BRIGHTNESS, BRIGHTNESS, p=p), search_at=0.5
    ),
    "grayscale": Augmentation(lambda a, p: a.ToGray(p=p), search_at=0.3),
    "hue_saturation": Augmentation(lambda a, p: a.HueSaturationValue(HUE, SATURATION, 0, p=p), search_at=0.5),
    "blur": Augmentation(lambda a, p: a.Blur(BLUR_PX, p=p), search_at=0.3),
}
MIXING = {"copy_paste": 0.5}  # probabilities that the search tries; see paste_foregrounds


def list_choices(config: type, augmentations: dict[str, Augmentation]) -> dict[str, tuple[float, float]]:
    """Return the probabilities to try, by field; raise TypeError unless the fields name all augmentations."""
    fields = [f.name for f in dataclasses.fields(config)]
    searched = {name: each.search_at for name, each in augmentations.items()} | MIXING
    if odd := set(fields) ^ set(searched):
        raise TypeError(f"{', '.join(sorted(odd))}: define it both in {config.__name__} and in GEOMETRY or PHOTOMETRY")
    return {name: (0.0, searched[name]) for name in fields}


AUGMENT_CHOICES = list_choices(AugmentConfig, GEOMETRY | PHOTOMETRY)


class Augment:
    """Change samples at random, each by its own seed, so that neither batch size nor worker matters."""

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config
        self._py_random = random.Random(0)  # the generator class that albumentations requires
        self._bits = np.random.PCG64(0)
        self._state: Any = self._bits.state
        self._geometry = self._compose(GEOMETRY, additional_targets=TARGETS)
        self._photometry = self._compose(PHOTOMETRY)

    def change(self, batch: RawBatch, seeds: UInt64[np.ndarray, " b"]) -> RawBatch:
        """Change a batch in place and return it; the same seed changes the same sample in the same way."""
        image, mask, depth = batch.image, batch.mask, batch.depth
        for i, seed in enumerate(seeds.tolist()):
            self._seed(seed)
            if self._geometry:
                valid = {} if batch.mask_valid is None else {"mask_valid": batch.mask_valid[i].astype(np.uint8)}
                changed = self._geometry(image=image[i], mask=mask[i], depth=depth[i], **valid)
                image[i], mask[i], depth[i] = changed["image"], changed["mask"], changed["depth"]
                if batch.mask_valid is not None:
                    batch.mask_valid[i] = changed["mask_valid"] != 0
            if self._photometry:
                image[i] = self._photometry(image=image[i])["image"]
        return batch

    def _compose(self, augmentations: dict[str, Augmentation], **options: Any) -> Any:
        """Join the transforms with a probability above 0; None if there are none. They share one pair of generators."""
        used = {name: p for name in augmentations if (p := getattr(self.config, name)) > 0}
        if not used:
            return None
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # no check for a newer version over the network
        import albumentations as a  # the import takes seconds; --help must not wait for it

        group = a.Compose([augmentations[name].build(a, p) for name, p in used.items()], **options)
        group.set_random_state(np.random.Generator(self._bits), self._py_random)
        return group

    def _seed(self, seed: int) -> None:
        """Set both generators; 4 times faster than `Compose.set_random_seed`, which creates new ones."""
        self._py_random.seed(seed)
        self._state["state"]["state"] = seed * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128
        self._bits.state = self._state


def paste_foregrounds(batch: RawBatch, seeds: UInt64[np.ndarray, " b"], pack: Pack, p: float) -> None:
    """Paste foregrounds of other samples of the pack, with mask and depth, into a batch in place, each with chance `p`.

    An unknown mask and an unknown depth map stay unknown; unknown depth of the source makes pasted pixels unknown.

    Source: Ghiasi et al. 2021, arXiv:2012.07177, for one foreground and without occlusion by nearer objects.
    """
    draws = np.stack([np.random.default_rng([seed, PASTE_STREAM]).random(PASTE_DRAWS) for seed in seeds.tolist()])
    rows = np.flatnonzero(draws[:, 0] < p)
    if not rows.size:
        return
    sources = pack.gather((draws[rows, 1] * len(pack)).astype(np.int64))
    for i, row in enumerate(rows.tolist()):
        if sources.mask_known[i] and (sources.mask[i] >= PASTE_OPAQUE).any():
            _paste(batch, row, sources, i, build_paste_matrix(draws[row, 2:], pack.px))


def build_paste_matrix(draws: Float[np.ndarray, "5"], px: int) -> Float[np.ndarray, "2 3"]:
    """Return the affine transform of draws from [0, 1): flip, scale, angle, shift to the right, shift downwards."""
    scale = PASTE_SCALE[0] + draws[1] * (PASTE_SCALE[1] - PASTE_SCALE[0])
    centre = (px - 1) / 2
    rotation = cv2.getRotationMatrix2D((centre, centre), PASTE_ROTATION_DEG * (2 * draws[2] - 1), scale)
    matrix = np.asarray(rotation, np.float64)
    if draws[0] < 0.5:
        matrix = matrix @ np.array([[-1, 0, px - 1], [0, 1, 0], [0, 0, 1]], np.float64)
    matrix[:, 2] += PASTE_SHIFT * px * (2.0 * draws[3:] - 1.0)
    return matrix


def _paste(batch: RawBatch, row: int, sources: RawBatch, i: int, matrix: Float[np.ndarray, "2 3"]) -> None:
    mask = cv2.warpAffine(sources.mask[i], matrix, batch.mask.shape[1:])
    left, top, width, height = cv2.boundingRect(mask)  # only these pixels change
    box, size, matrix = np.s_[top : top + height, left : left + width], (width, height), matrix.copy()
    matrix[:, 2] -= left, top
    mask = mask[box]
    if not mask.size:
        return
    alpha = mask.astype(np.float32)[..., None] / 255
    image = cv2.warpAffine(sources.image[i], matrix, size, borderMode=cv2.BORDER_REFLECT_101)
    batch.image[row][box] = np.rint(batch.image[row][box] * (1 - alpha) + image * alpha)
    if batch.mask_known[row]:
        batch.mask[row][box] = np.rint(batch.mask[row][box] * (1 - alpha[..., 0]) + mask)
        if batch.mask_valid is not None:
            batch.mask_valid[row][box] |= mask >= PASTE_OPAQUE
    if batch.depth[row].any():
        depth, opaque = cv2.warpAffine(sources.depth[i], matrix, size, flags=cv2.INTER_NEAREST), mask >= PASTE_OPAQUE
        batch.depth[row][box][opaque] = _shift_depth(depth[opaque], batch.depth[row][box][opaque])


def _shift_depth(pasted: UInt16[np.ndarray, " n"], covered: UInt16[np.ndarray, " n"]) -> UInt16[np.ndarray, " n"]:
    """Shift depth codes of a pasted foreground to the nearest that it covers, as if it stood there; 0 is unknown."""
    known, behind = pasted > 0, covered[covered > 0]
    if not known.any() or not behind.size:
        return pasted
    shift = np.percentile(behind, PASTE_NEAREST) - np.median(pasted[known])
    return np.where(known, np.clip(pasted + shift, 1, 65535), 0).astype(np.uint16)
