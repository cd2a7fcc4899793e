"""Recorded curves, and which of them answers for a configuration that was not recorded. Knows no clock, no searcher.

The surrogate is one nearest neighbour: a configuration trains as the recorded one does that is nearest to it, noise
included. Nearest by Gower's distance over the parameters of the search space, among those of the same architecture:
numbers differ by how many recorded ones lie between them, words not at all or wholly, and a parameter that only one of
two has, such as the learning rate of the other optimizer, wholly.

Source: Gower 1971, doi:10.2307/2528823; ranks for numbers: Podani 1999, doi:10.2307/1224438.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import AnalysisError
from search.agreement import agreement
from search.config import TrialConfig
from search.space import SpaceLimits, point

COLUMNS = ("config", "stage", "epoch", "score", "cpu_s", "params", "macs", "train_images")
EXPLORE, ABOVE = "explore", ("confirm", "final", "flat")


@dataclass(frozen=True)
class Curve:
    """One training to its end.

    Attributes:
        scores: After each epoch; the last is NaN where the training diverged.
        ends_s: Processor seconds from the beginning to the end of each epoch.
    """

    scores: np.ndarray
    ends_s: np.ndarray


class Recording:
    """A table of recorded curves.

    Attributes:
        configs: What was trained, by number.
        params: Parameters of each.
        curves: By number and stage; a stage above one that diverged is missing.
        unit_s: Mean cost of a whole training on the first stage, the unit of budgets.
        among: Numbers of the configurations that answer; all of them, or those of a half.

    Args:
        frame: As `record_curves.table` returns it.
        limits: Of the space that was recorded.
    """

    def __init__(self, frame: pd.DataFrame, limits: SpaceLimits) -> None:
        fields = [name for name in frame.columns if "/" in name]
        first = frame.groupby("config", sort=True).first()
        self.configs = [TrialConfig.from_flat(_present(row)) for _, row in first[fields].iterrows()]
        self.params = [int(value) for value in first["params"]]
        self.curves = dict(_curves(frame))
        self.limits = limits
        self.unit_s = float(
            np.mean([curve.ends_s[-1] for (_, stage), curve in self.curves.items() if stage == EXPLORE])
        )
        self.space = Neighbours([point(config, limits) for config in self.configs])
        self.among: Sequence[int] = range(len(self.configs))

    def half(self, seed: int) -> "Recording":
        """Return the same table, of which only a half, drawn by the seed, answers: as another table would be."""
        part = copy(self)
        numbers = np.random.default_rng(seed).permutation(len(self.configs))[: (len(self.configs) + 1) // 2]
        part.among = sorted(numbers.tolist())
        return part

    def nearest(self, config: TrialConfig, *, among: Sequence[int] | None = None) -> int:
        """Return the number of the recorded configuration that answers for `config`."""
        return self.space.nearest(point(config, self.limits), among=self.among if among is None else among)

    @property
    def best(self) -> float:
        """The best score of those that answer, at the final size."""
        return max(self.end(i, stage) for i in self.among for stage in ("final", "flat"))

    def end(self, config: int, stage: str) -> float:
        """Return the score that a whole training ends with, of its best epoch; minus infinity where it diverged."""
        curve = self.curves.get((config, stage))
        return -np.inf if curve is None or np.isnan(curve.scores).any() else float(curve.scores.max())

    def describe(self) -> str:
        """Return, in words, how far the table and its surrogate can be trusted.

        The surrogate by leaving one out: the rank correlation of what configurations end with and what their nearest
        others do.
        """
        numbers = range(len(self.configs))
        ends = {stage: np.array([self.end(i, stage) for i in numbers]) for stage in (EXPLORE, *ABOVE)}
        others = [self.nearest(self.configs[i], among=[k for k in numbers if k != i]) for i in numbers]
        said = [f"{len(numbers)} configurations, the best scores {max(ends['final'].max(), ends['flat'].max()):.3f}"]
        said += [f"their nearest others foretell {EXPLORE} with {_correlation(ends[EXPLORE][others], ends[EXPLORE])}"]
        pairs = ((EXPLORE, "confirm"), ("confirm", "final"), (EXPLORE, "final"), ("final", "flat"))
        said += [f"{a} foretells {b} with {_correlation(ends[a], ends[b])}" for a, b in pairs]
        return "; ".join(said) + "."


class Neighbours:
    """Points of a conditional space, and their distances to others.

    Args:
        points: Parameter names with plain values; `model/arch` is among them.
    """

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        self.names = sorted({name for each in points for name in each} - {"model/arch"})
        self.archs = np.array([each["model/arch"] for each in points])
        self._words: dict[str, int] = {}
        self.known = {
            name: np.unique([each[name] for each in points if _is_number(each.get(name))]) for name in self.names
        }
        self.values = np.array([self._encoded(each) for each in points])

    def distances(self, to: Mapping[str, Any]) -> np.ndarray:
        """Return the distance of every point to one, infinite between architectures."""
        mine = self._encoded(to)
        apart = np.minimum(np.abs(self.values - mine), 1.0)
        apart[np.isnan(self.values) != np.isnan(mine)] = 1.0  # only one of the two has it
        mean = np.nan_to_num(apart).mean(axis=1)
        return np.where(self.archs == to["model/arch"], mean, np.inf)

    def nearest(self, to: Mapping[str, Any], *, among: Sequence[int] | None = None) -> int:
        """Return the index of the nearest point, the first of equals, of all or of those of `among`."""
        distances = self.distances(to)
        return int(np.argmin(distances)) if among is None else int(among[int(np.argmin(distances[list(among)]))])

    def _encoded(self, each: Mapping[str, Any]) -> np.ndarray:
        return np.array([self._value(name, each.get(name)) for name in self.names])

    def _value(self, name: str, value: Any) -> float:
        """Return a number's place among those recorded, in [0, 1]; a word as a whole number; NaN for nothing."""
        if value is None:
            return np.nan
        if not _is_number(value):
            return float(self._words.setdefault(str(value), len(self._words)))
        known = self.known[name]
        return float(np.interp(value, known, np.linspace(0.0, 1.0, len(known)))) if len(known) > 1 else 0.0


def load_recording(path: Path) -> Recording:
    """Read a table of recorded curves.

    Raises:
        AnalysisError: There is none, or it is something else.
    """
    from search.space import batch_sizes

    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{path}: no table of recorded curves ({str(error).splitlines()[0]})") from error
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise AnalysisError(f"{path}: has no column {missing[0]}; write it with analysis.benchmarks.record_curves")
    images = int(frame.loc[frame["stage"] == EXPLORE, "train_images"].iloc[0])
    return Recording(frame, SpaceLimits(batch_sizes=batch_sizes(images)))


def _curves(frame: pd.DataFrame) -> Iterator[tuple[tuple[int, str], Curve]]:
    key: Any
    for key, group in frame.sort_values("epoch").groupby(["config", "stage"]):
        scores, costs = group["score"].to_numpy(float), group["cpu_s"].to_numpy(float)
        yield (int(key[0]), str(key[1])), Curve(scores, costs.cumsum())


def _present(row: "pd.Series[Any]") -> dict[str, Any]:
    """Return the fields that a configuration has, lists as such."""
    found = {}
    for name, value in row.items():
        if pd.isna(value):
            continue
        found[str(name)] = json.loads(value) if isinstance(value, str) and value.startswith("[") else value
    return found


def _correlation(a: np.ndarray, b: np.ndarray) -> str:
    known = np.isfinite(a) & np.isfinite(b)
    found = agreement(a[known], b[known])
    if found is None:
        return "no rank correlation"
    spearman = found["spearman"]
    return f"a rank correlation of {spearman['value']:.2f} [{spearman['low']:.2f}, {spearman['high']:.2f}]"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
