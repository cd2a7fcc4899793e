"""Training of one configuration: `fit`, the range test that finds a learning rate, and the throughput of a worker."""

from search.training.micro_batches import TrialOutOfMemoryError, is_out_of_memory
from search.training.range_test import RangeTest, centre_range, run_range_test
from search.training.throughput import measure_throughput
from search.training.trainer import STATE_FILE, FitPlan, State, TrialDivergedError, fit

__all__ = [
    "STATE_FILE",
    "FitPlan",
    "RangeTest",
    "State",
    "TrialDivergedError",
    "TrialOutOfMemoryError",
    "centre_range",
    "fit",
    "is_out_of_memory",
    "measure_throughput",
    "run_range_test",
]
