"""Training of one configuration: `fit`, the range test that finds a learning rate, and the throughput of a worker."""

from search.training.micro_batches import TrialOutOfMemoryError
from search.training.trainer import FitPlan, TrialDivergedError, fit

__all__ = ["FitPlan", "TrialDivergedError", "TrialOutOfMemoryError", "fit"]
