"""Load packs as augmented, normalised batches of tensors.

Import `Batch` and `Loader` from `data.loading.loaders`: that module loads torch.
"""

from data.loading.augment import AugmentConfig

__all__ = ["AugmentConfig"]
