"""Breeds of four-legged animals: the ranges of their build and looks."""

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Breed:
    """Ranges of build, in lengths of the trunk, and of looks.

    Attributes:
        leg: Length of the legs.
        girth: Radius of the trunk.
        neck: Length of the neck.
        rise: Angle of the neck above the trunk, radians.
        head: Radius of the head.
        muzzle: Length of the muzzle in radii of the head.
        ear: Length of the ears in radii of the head.
        tail: Length of the tail.
        horn: Length of the horns in radii of the head; 0 for none.
        trunk: Whether it has a trunk like an elephant.
        height_m: Length of the trunk in metres.
        hues: Hue, saturation and value of the coat.
        patterns: What the coat may show.
    """

    leg: Range
    girth: Range
    neck: Range
    rise: Range
    head: Range
    muzzle: Range
    ear: Range
    tail: Range
    height_m: Range
    hues: tuple[Range, Range, Range]
    patterns: tuple[str, ...]
    horn: float = 0.0
    trunk: bool = False


BROWN = ((0.03, 0.11), (0.1, 0.7), (0.2, 0.95))


GREY = ((0.0, 1.0), (0.0, 0.12), (0.1, 0.95))


BREEDS = {
    "dog": Breed(
        leg=(0.5, 0.8),
        girth=(0.16, 0.22),
        neck=(0.2, 0.35),
        rise=(0.5, 1.1),
        head=(0.13, 0.18),
        muzzle=(1.2, 2.0),
        ear=(0.8, 1.4),
        tail=(0.4, 0.8),
        height_m=(0.5, 0.8),
        hues=BROWN,
        patterns=("plain", "patches", "cloudy"),
    ),
    "cat": Breed(
        leg=(0.4, 0.55),
        girth=(0.15, 0.2),
        neck=(0.12, 0.2),
        rise=(0.5, 1.0),
        head=(0.15, 0.19),
        muzzle=(0.5, 0.7),
        ear=(0.8, 1.0),
        tail=(0.8, 1.1),
        height_m=(0.35, 0.5),
        hues=BROWN,
        patterns=("stripes", "plain", "patches"),
    ),
    "horse": Breed(
        leg=(0.85, 1.05),
        girth=(0.2, 0.25),
        neck=(0.5, 0.65),
        rise=(0.7, 1.0),
        head=(0.13, 0.15),
        muzzle=(2.0, 2.6),
        ear=(0.6, 0.8),
        tail=(0.5, 0.7),
        height_m=(1.3, 1.7),
        hues=BROWN,
        patterns=("plain", "plain", "patches"),
    ),
    "zebra": Breed(
        leg=(0.8, 0.95),
        girth=(0.22, 0.26),
        neck=(0.4, 0.5),
        rise=(0.7, 0.9),
        head=(0.13, 0.15),
        muzzle=(1.9, 2.3),
        ear=(0.8, 1.0),
        tail=(0.4, 0.6),
        height_m=(1.2, 1.4),
        hues=((0.1, 0.15), (0.0, 0.05), (0.9, 0.98)),
        patterns=("stripes",),
    ),
    "cow": Breed(
        leg=(0.55, 0.7),
        girth=(0.26, 0.32),
        neck=(0.22, 0.3),
        rise=(0.1, 0.5),
        head=(0.15, 0.17),
        muzzle=(1.6, 2.0),
        ear=(0.8, 1.1),
        tail=(0.5, 0.7),
        height_m=(1.4, 1.7),
        hues=BROWN,
        patterns=("patches", "patches", "plain"),
        horn=0.9,
    ),
    "sheep": Breed(
        leg=(0.45, 0.55),
        girth=(0.3, 0.36),
        neck=(0.15, 0.2),
        rise=(0.3, 0.7),
        head=(0.13, 0.15),
        muzzle=(1.2, 1.5),
        ear=(0.9, 1.2),
        tail=(0.1, 0.2),
        height_m=(0.8, 1.0),
        hues=GREY,
        patterns=("cloudy",),
    ),
    "giraffe": Breed(
        leg=(1.2, 1.5),
        girth=(0.24, 0.28),
        neck=(1.3, 1.6),
        rise=(1.0, 1.3),
        head=(0.13, 0.15),
        muzzle=(1.8, 2.2),
        ear=(0.8, 1.0),
        tail=(0.4, 0.6),
        height_m=(1.6, 1.9),
        hues=((0.09, 0.12), (0.3, 0.5), (0.85, 0.95)),
        patterns=("spots",),
        horn=0.7,
    ),
    "elephant": Breed(
        leg=(0.6, 0.75),
        girth=(0.33, 0.4),
        neck=(0.25, 0.3),
        rise=(0.2, 0.5),
        head=(0.24, 0.28),
        muzzle=(0.9, 1.0),
        ear=(1.3, 1.6),
        tail=(0.4, 0.5),
        height_m=(1.8, 2.4),
        hues=GREY,
        patterns=("cloudy", "plain"),
        trunk=True,
    ),
    "pig": Breed(
        leg=(0.3, 0.4),
        girth=(0.26, 0.32),
        neck=(0.12, 0.16),
        rise=(0.0, 0.3),
        head=(0.18, 0.22),
        muzzle=(1.2, 1.4),
        ear=(0.7, 1.0),
        tail=(0.1, 0.2),
        height_m=(0.8, 1.1),
        hues=((0.94, 1.05), (0.1, 0.4), (0.5, 0.95)),
        patterns=("plain", "patches"),
    ),
}
