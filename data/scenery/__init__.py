"""Procedural worlds and figures of the built-in data. Knows neither files nor data sets."""
