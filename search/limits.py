"""What trials of the search may cost: when to ask for no more, how long one may take, how large it may be."""

import time
from dataclasses import dataclass

import torch

from models.build import build_model
from models.cost import macs, training_mib
from search.config import TrialConfig

TYPICAL_MACS = 60e6  # of a small network at 80 px; what an explore trial's number of images is chosen for
FULL_TRIALS = 25  # trials of full length that would fill the explore stage; most are stopped well before
WEIGHT_COPIES = 5  # the weights, their gradients, the optimizer's two moments, the weights of the best epoch
LEAST_EPOCHS = 2  # a network that cannot see its data twice within a trial's time is not worth the trial


@dataclass
class Closing:
    """When the searcher asks for nothing new.

    Attributes:
        trials: After so many trials; None for no such limit.
        at: From this moment on, seconds since the epoch; None for no such limit.
    """

    trials: int | None
    at: float | None

    def __call__(self, asked: int) -> bool:
        """Return whether the searcher is closed after `asked` trials."""
        if self.trials is not None and asked >= self.trials:
            return True
        return self.at is not None and time.time() >= self.at


@dataclass
class Affordable:
    """Whether a network is small enough.

    Attributes:
        most_macs: Multiply-adds that an image may cost.
        px: Side of that image.
    """

    most_macs: float
    px: int

    def __call__(self, config: TrialConfig) -> bool:
        """Return whether one image costs at most `most_macs` multiply-adds at `px`."""
        with torch.device("meta"):  # shapes are enough, weights take time
            model = build_model(config.model)
        return macs(model, self.px)[0] <= self.most_macs


def explore_cap_s(stage_s: float, workers: int) -> float:
    """Return the longest that one trial of the search may take, in seconds."""
    return stage_s * workers / FULL_TRIALS


def affordable_images(cap_s: float | None, macs_per_s: float) -> int | None:
    """Return how many images a trial's time allows a small network to see LEAST_EPOCHS times; None for no limit."""
    return None if cap_s is None else max(64, int(macs_per_s * cap_s / (LEAST_EPOCHS * TYPICAL_MACS)))


def affordable(px: int, cap_s: float | None, images: int, macs_per_s: float) -> Affordable:
    """Return the rule that keeps trials within their cap.

    Args:
        px: Side of the images.
        cap_s: Seconds of one trial; None for no limit.
        images: Training images of an epoch.
        macs_per_s: Multiply-adds of the forward pass that one worker trains in a second.
    """
    most = float("inf") if cap_s is None else macs_per_s * cap_s / (images * LEAST_EPOCHS)
    return Affordable(most, px)


def images_at_once(config: TrialConfig, px: int, memory_mib: float | None) -> int | None:
    """Return how many training images fit into memory at once, at least one; None for no limit.

    Args:
        config: What is trained.
        px: Side of the images.
        memory_mib: What weights and images may fill, in MiB; None for no limit.
    """
    if memory_mib is None:
        return None
    model = build_model(config.model)
    weights_mib = WEIGHT_COPIES * sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
    return max(1, int((memory_mib - weights_mib) / training_mib(model, px)))
