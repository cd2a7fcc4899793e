"""A photo and its depth as points in space, and the view of them. Knows neither networks nor pages.

What is missing is assumed: a relative inverse depth has neither unit nor offset, and a photo does not say what lens it
was taken with. The points are right up to these three.
"""

import math

import cv2
import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float32, UInt8

FIELD_OF_VIEW_DEG = 55.0  # along the longer side: a lens of 35 mm on 36 mm film sees 54.4
FARTHEST = 2.0  # where the inverse depth is 0; the nearest, where it is 1, is at 1
MOST_POINTS = 40_000
POINT_PX = 2.5  # of the view; leaves no gaps between so many points on a view of 700 px
EYE = {"x": 0.2, "y": -1.3, "z": 0.1}  # a little to the right of the camera and above it
ASSUMED = f"a camera of {FIELD_OF_VIEW_DEG:.0f} degrees, the farthest {FARTHEST:g} times as far away as the nearest"

Photo = UInt8[np.ndarray, "h w 3"]
Map = Float32[np.ndarray, "h w"]
Points = Float32[np.ndarray, "n 3"]
Colours = UInt8[np.ndarray, "n 3"]


def points(photo: Photo, depth: Map, *, most: int = MOST_POINTS) -> tuple[Points, Colours]:
    """Return where the pixels of a photo lie in space, and their colours.

    Args:
        photo: Red, green, blue.
        depth: Relative inverse depth in [0, 1], near = 1, of the photo's size.
        most: Larger photos are shrunk to about so many pixels.

    Returns:
        Right, away and up from the camera, in distances (along the optical axis) of the nearest; and RGB.

    Source: the pinhole camera, Hartley and Zisserman 2004, chapter 6.
    """
    photo, depth = (_shrunk(values, most) for values in (photo, depth))
    away = 1 / (depth + (1 - depth) / FARTHEST)
    height, width = depth.shape
    focal_px = max(height, width) / 2 / math.tan(math.radians(FIELD_OF_VIEW_DEG / 2))
    right = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / focal_px * away
    up = -(np.arange(height, dtype=np.float32)[:, None] + 0.5 - height / 2) / focal_px * away
    return np.stack([right, away, up], axis=-1).reshape(-1, 3), photo.reshape(-1, 3)


def view(xyz: Points, rgb: Colours) -> go.Figure:
    """Return the points as a figure that can be turned by hand, nothing behind them."""
    colours = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in rgb.tolist()]
    right, away, up = xyz.T
    dots = {"size": POINT_PX, "color": colours}
    figure = go.Figure(go.Scatter3d(x=right, y=away, z=up, mode="markers", marker=dots, hoverinfo="skip"))
    axes = dict.fromkeys(("xaxis_visible", "yaxis_visible", "zaxis_visible"), False)
    figure.update_scenes(aspectmode="data", camera_eye=EYE, **axes)
    nothing = "rgba(0,0,0,0)"
    return figure.update_layout(margin=dict.fromkeys("lrtb", 0), paper_bgcolor=nothing)


def _shrunk(values: np.ndarray, most: int) -> np.ndarray:
    """Return a photo or a map of at most about `most` pixels, by area averages."""
    height, width = values.shape[:2]
    scale = math.sqrt(most / (height * width))
    if scale >= 1:
        return values
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)
