"""Matplotlib plots of runs and of single images, for files and notebooks.

Import from `plots` and `images`; nothing is imported here, because matplotlib takes seconds.
"""
