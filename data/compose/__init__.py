"""Composites of foregrounds and photos as a data set: `one-look compose`, or `data.compose.compose` in Python."""
