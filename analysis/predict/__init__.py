"""Predict foreground and depth of a user's photos and write the images to a folder."""
