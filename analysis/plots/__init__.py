"""Matplotlib plots of runs and of single images, for files and notebooks.

Import from `plots` and `images`; nothing is re-exported here, because importing matplotlib takes seconds.
"""
