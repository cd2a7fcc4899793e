"""Networks, losses and metrics for predicting a mask and a depth map from one RGB image.

The package exports only names that do not need torch. Import the others from their modules: networks from
`models.build`, costs from `models.cost`, losses and metrics from `models.losses` and `models.metrics`, targets from
`models.target`.
"""

from models.config import ConfigError, ModelConfig

__all__ = ["ConfigError", "ModelConfig"]
