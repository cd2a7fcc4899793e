"""Matplotlib plots of runs and of single images, for files and notebooks.

Import from `plots`, `image_errors` and `cases`; nothing is imported here, because matplotlib takes seconds.
"""
