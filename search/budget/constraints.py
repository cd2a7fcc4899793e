"""What trials may cost: the user's constraints, the time of a trial of the search, its memory; when to ask no more."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import torch

from models.build import build_model
from models.config import ConfigError
from models.cost import count_macs, estimate_training_mib, measure_latency_ms, probe
from search.config.trial import TrialConfig

TYPICAL_MACS = 60e6  # of a small network at 80 px; what the number of images of a search is chosen for
TYPICAL_PX = 80
WEIGHT_COPIES = 5  # the weights, their gradients, the optimizer's two moments, the weights of the best epoch
LEAST_EPOCHS = 2  # a network that cannot see its data twice within a trial's time is not worth the trial
MEASURING, LEAST_MEASURED = 0.3, 16  # part of a trial's time for one validation, and images that it has at the least
TIME = "time"  # the one excess that is no constraint of the user's


@dataclass
class StopCriterion:
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


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """What a network may cost at most, whatever it scores.

    Attributes:
        max_params: Parameters.
        max_macs: Multiply-adds of one image of `px`.
        max_latency_ms: Milliseconds of one image of `px`, on one thread of this machine, or on its GPU.
        px: Side of the images of the model that comes out.
    """

    max_params: float | None = None
    max_macs: float | None = None
    max_latency_ms: float | None = None
    px: int = 160

    def excess(self, config: TrialConfig) -> dict[str, float]:
        """Return by what part each constraint that is stated is exceeded, at most 0 where it is kept.

        The latency, which takes a hundred times as long to find as the others, is only measured where they are kept.
        """
        found = {}
        if self.max_params is not None:
            found["params"] = probe(config.model).params / self.max_params - 1
        if self.max_macs is not None:
            found["macs"] = count_macs(config.model, self.px) / self.max_macs - 1
        if self.max_latency_ms is not None and max(found.values(), default=0.0) <= 0:
            found["latency_ms"] = latency(config, self.px) / self.max_latency_ms - 1
        return found

    def keeping(self, configs: Sequence[TrialConfig], *, what: str) -> list[TrialConfig]:
        """Return those of `configs` that keep all constraints.

        Args:
            configs: What there is to choose from.
            what: What they are, for the message.

        Raises:
            ConfigError: None does.
        """
        kept = [config for config in configs if max(self.excess(config).values(), default=0.0) <= 0]
        if kept:
            return kept
        stated = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "px" and getattr(self, f.name)}
        asked = " ".join(f"--{name.replace('_', '-')} {value:,.10g}" for name, value in stated.items())
        params = min(probe(config.model).params for config in configs)
        lightest = min(configs, key=lambda config: count_macs(config.model, self.px))
        work, took_ms = count_macs(lightest.model, self.px), latency(lightest, self.px)
        raise ConfigError(
            f"{asked}: no network of {what} keeps that; the smallest has {params:,} parameters, the lightest {work:,} "
            f"multiply-adds and takes {took_ms:.1f} ms at {self.px} px"
        )

    def to_dict(self) -> dict[str, float | None]:
        """Return plain values."""
        return asdict(self)


def latency(config: TrialConfig, px: int) -> float:
    """Return the milliseconds of one px by px image on one thread, or on the GPU where there is one."""
    device, threads = "cuda" if torch.cuda.is_available() else "cpu", torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            return measure_latency_ms(build_model(config.model).on(device), px, device)
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, kw_only=True)
class Feasibility:
    """What a configuration of the search must keep before it is worth a trial.

    Attributes:
        constraints: The user's.
        most_macs: Multiply-adds that an image of `px` may cost for a trial to see its data often enough in its time.
        px: Side of that image.
    """

    constraints: Constraints
    most_macs: float = math.inf
    px: int = TYPICAL_PX

    def excess(self, config: TrialConfig) -> dict[str, float]:
        """Return by what part each rule is exceeded, at most 0 where it is kept; TIME is the search's own."""
        in_time = count_macs(config.model, self.px) / self.most_macs - 1
        return {TIME: in_time} if in_time > 0 else {TIME: in_time, **self.constraints.excess(config)}

    def fits(self, config: TrialConfig) -> bool:
        """Return whether all rules are kept."""
        return max(self.excess(config).values()) <= 0


def search_cap_s(stage_s: float, workers: int, full_trials: int) -> float:
    """Return the longest that one trial of a stage that searches may take, in seconds."""
    return min(stage_s * workers / full_trials, stage_s / 2)  # of many workers each still makes two trials


def affordable_images(cap_s: float | None, macs_per_s: float, *, px: int, epochs: int) -> int | None:
    """Return how many images a trial's time allows a small network to see often enough; None for no limit."""
    if cap_s is None:
        return None
    typical = TYPICAL_MACS * (px / TYPICAL_PX) ** 2
    return max(64, int(macs_per_s * cap_s / (min(LEAST_EPOCHS, epochs) * typical)))


def affordable_macs(cap_s: float | None, images: int, macs_per_s: float, *, epochs: int) -> float:
    """Return the multiply-adds of an image with which trials keep within their cap.

    Args:
        cap_s: Seconds of one trial; None for no limit.
        images: Training images of an epoch.
        macs_per_s: Multiply-adds of the forward pass that one worker trains in a second.
        epochs: Planned.
    """
    return math.inf if cap_s is None else macs_per_s * cap_s / (images * min(LEAST_EPOCHS, epochs))


def images_at_once(config: TrialConfig, px: int, memory_mib: float | None) -> int | None:
    """Return how many training images fit into memory at once, at least one; None for no limit.

    Args:
        config: What is trained.
        px: Side of the images.
        memory_mib: What weights and images may fill, in MiB; None for no limit.
    """
    if memory_mib is None:
        return None
    weights_mib = WEIGHT_COPIES * 4 * probe(config.model).params / 2**20
    return max(1, int((memory_mib - weights_mib) / estimate_training_mib(config.model, px)))


def measurable_images(config: TrialConfig, px: int, cap_s: float | None, macs_per_s: float | None) -> int | None:
    """Return how many validation images a trial has time for after each epoch; None for no limit.

    Only networks that are far too slow for their budget, as a stated recipe may be, are measured on fewer than all.
    """
    if cap_s is None or macs_per_s is None:
        return None
    return max(LEAST_MEASURED, int(MEASURING * cap_s * macs_per_s / count_macs(config.model, px)))
