"""Load packs as augmented, normalised batches of tensors; render samples and predictions as images."""
