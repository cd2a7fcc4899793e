"""Matplotlib plots of runs and of single images, for files and notebooks."""
