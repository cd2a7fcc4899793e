"""Composites of foregrounds and photos as a data set: `one-look compose`, or `data.compose.compose` from code."""

from data.compose.placement import Placement, draw_placement

__all__ = ["Placement", "draw_placement"]
