"""Decode images, masks and depth maps to values with a meaning, and infer the meaning that is not configured."""
