"""Turn an image and its relative depth into a point cloud, and plot the cloud.

Relative inverse depth has neither unit nor offset, and an image does not record its lens. All three are assumed, so the
points are right up to them.
"""

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from analysis.predict.photos import RGBImage

if TYPE_CHECKING:
    import plotly.graph_objects as go

FIELD_OF_VIEW_DEG = 55.0  # along the longer side; a 35 mm lens on 36 mm film has 54.4
FARTHEST = 2.0  # distance where the inverse depth is 0; where it is 1 the distance is 1
MAX_POINTS = 40_000
POINT_PX = 2.5  # so many points leave no gaps in a view of 700 px
EYE = {"x": 0.2, "y": -1.3, "z": 0.1}  # a little to the right of the camera and above it
ASSUMED = f"a camera of {FIELD_OF_VIEW_DEG:.0f} degrees, the farthest {FARTHEST:g} times as far away as the nearest"

DepthMap = Float32[np.ndarray, "h w"]
Points = Float32[np.ndarray, "n 3"]
Colours = UInt8[np.ndarray, "n 3"]


def make_points(image: RGBImage, depth: DepthMap, *, most: int = MAX_POINTS) -> tuple[Points, Colours]:
    """Project the pixels of an image into space with a pinhole camera.

    Args:
        image: Red, green, blue.
        depth: Relative inverse depth in [0, 1], near = 1, of the image's size.
        most: Larger images are shrunk to about this number of pixels.

    Returns:
        Coordinates (right, forward, up) from the camera, in units of the nearest distance along the optical axis; and
        the colour of each point.

    Source: the pinhole camera, Hartley and Zisserman 2004, chapter 6.
    """
    image, depth = (shrink(values, math.sqrt(most / depth.size)) for values in (image, depth))
    away = 1 / (depth + (1 - depth) / FARTHEST)
    height, width = depth.shape
    focal_px = max(height, width) / 2 / math.tan(math.radians(FIELD_OF_VIEW_DEG / 2))
    right = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / focal_px * away
    up = -(np.arange(height, dtype=np.float32)[:, None] + 0.5 - height / 2) / focal_px * away
    return np.stack([right, away, up], axis=-1).reshape(-1, 3), image.reshape(-1, 3)


def plot_points(xyz: Points, rgb: Colours) -> "go.Figure":
    """Plot the points as a figure that can be turned by hand, on a transparent background."""
    import plotly.graph_objects as go

    colours = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in rgb.tolist()]
    right, away, up = xyz.T
    dots = {"size": POINT_PX, "color": colours}
    figure = go.Figure(go.Scatter3d(x=right, y=away, z=up, mode="markers", marker=dots, hoverinfo="skip"))
    axes = dict.fromkeys(("xaxis_visible", "yaxis_visible", "zaxis_visible"), False)
    figure.update_scenes(aspectmode="data", camera_eye=EYE, **axes)
    transparent = "rgba(0,0,0,0)"
    return figure.update_layout(margin=dict.fromkeys("lrtb", 0), paper_bgcolor=transparent)


def shrink(values: np.ndarray, scale: float) -> np.ndarray:
    """Scale the sides of an image or map by area averages; it is left as it is where `scale` is 1 or more."""
    if scale >= 1:
        return values
    size = [max(1, round(side * scale)) for side in values.shape[1::-1]]
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)
