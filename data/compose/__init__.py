"""Composites of foregrounds and photos as a data set: `python -m data.compose`, or `data.compose.compose` from code."""

from data.compose.placement import Overlap, Placement, draw_placement, overlap

__all__ = ["Overlap", "Placement", "draw_placement", "overlap"]
