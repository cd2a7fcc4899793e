"""Use a trained model: predict mask and depth of arrays and photos, and measure it on other data sets."""
