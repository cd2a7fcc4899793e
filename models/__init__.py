"""Networks, losses and metrics for predicting a mask and a depth map from one RGB image."""
