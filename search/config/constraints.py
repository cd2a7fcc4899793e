"""The user's constraints on the cost of a network, and the feasibility of a configuration."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from data.runtime.flags import to_flag
from models.config import ConfigError
from models.cost import Throughput, count_macs, measure_latency_ms, probe
from search.config.trial import TrialConfig

UNLIMITED = Throughput(math.inf)
TIME = "time"  # excess over the time of a trial, which is not a user constraint


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Upper limits of a network's cost."""

    px: int  # image size of the final stage, at which multiply-adds and latency are measured
    max_params: float | None = None
    max_macs: float | None = None  # multiply-adds of one image
    max_latency_ms: float | None = None  # milliseconds of one image, on one thread of this machine or on its GPU
    idle_ms: float | None = None  # result of `measure_reference_ms` before trials began

    def compute_excess(self, config: TrialConfig) -> dict[str, float]:
        """Return the relative excess over each limit that is set, at most 0 where it is met.

        Measuring the latency takes a hundred times as long as computing the other costs, so it is skipped if another
        limit is exceeded.
        """
        found = {}
        if self.max_params is not None:
            found["params"] = probe(config.model).params / self.max_params - 1
        if self.max_macs is not None:
            found["macs"] = count_macs(config.model, self.px) / self.max_macs - 1
        if self.max_latency_ms is not None and max(found.values(), default=0.0) <= 0:
            latency_ms = measure_latency_ms(config.model, self.px, idle_ms=self.idle_ms)
            found["latency_ms"] = latency_ms / self.max_latency_ms - 1
        return found

    def describe(self) -> str:
        """Return the limits that are set, as options."""
        limits = {name: value for name, value in asdict(self).items() if name.startswith("max_") and value}
        return " ".join(f"{to_flag(name)} {value:,.10g}" for name, value in limits.items())

    def select(self, configs: Sequence[TrialConfig], *, source: str) -> list[TrialConfig]:
        """Return the configurations that meet all constraints; raise ConfigError, naming `source`, if none does."""
        if kept := list(filter(self._fits, configs)):
            return kept
        raise self._build_error(configs, source)

    def check(self, configs: Sequence[TrialConfig], *, source: str) -> None:
        """Raise ConfigError, naming their `source`, unless a configuration meets all constraints."""
        if not any(map(self._fits, configs)):
            raise self._build_error(configs, source)

    def _fits(self, config: TrialConfig) -> bool:
        return max(self.compute_excess(config).values(), default=0.0) <= 0

    def _build_error(self, configs: Sequence[TrialConfig], source: str) -> ConfigError:
        params = min(probe(config.model).params for config in configs)
        lightest = min(configs, key=lambda config: count_macs(config.model, self.px))
        return ConfigError(
            f"{self.describe()}: no network of {source} meets this; the smallest has {params:,} parameters, the "
            f"lightest {count_macs(lightest.model, self.px):,} multiply-adds and takes "
            f"{measure_latency_ms(lightest.model, self.px):.1f} ms at {self.px} px"
        )


@dataclass(frozen=True, kw_only=True)
class Feasibility:
    """Conditions that a configuration of the search must meet before a trial trains it."""

    constraints: Constraints  # limits set by the user
    px: int  # side of the images of the stage
    throughput: Throughput = UNLIMITED  # throughput of one trial
    images: int = 0  # images that a trial must train on within `limit_s`, counting repetitions
    limit_s: float | None = None  # seconds of a trial; None for no limit

    def compute_excess(self, config: TrialConfig) -> dict[str, float]:
        """Return the relative excess over each limit, at most 0 where it is met; TIME is the search's own limit."""
        in_time = -1.0
        if self.limit_s is not None:
            needed_s = self.throughput.estimate_training_s(config.model, self.px, self.images, config.optim.batch_size)
            in_time = needed_s / self.limit_s - 1
        return {TIME: in_time} if in_time > 0 else {TIME: in_time, **self.constraints.compute_excess(config)}

    def fits(self, config: TrialConfig) -> bool:
        """Return whether all limits are met."""
        return max(self.compute_excess(config).values()) <= 0
