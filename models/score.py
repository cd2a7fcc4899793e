"""The score that ranks trials: a weighted mean of metrics, with errors inverted so that 1 is perfect."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.config import ConfigError, check_fields
from models.metric_table import METRICS

SCORED = "iou dice boundary_f mae_mask rmse_depth abs_rel log10 silog delta1 delta2 delta3".split()  # noqa: SIM905
ZERO_FOR_GUESS = {"iou", "dice", "boundary_f", "rmse_depth"}  # metrics whose term is 0 for a constant guess
DEFAULT_METRICS = {"mask": "iou", "depth": "rmse_depth"}  # short names in a settings file for the default metrics
DEFAULT_WEIGHTS = {"iou": 0.5, "rmse_depth": 0.5}
SIGMA = "its standard deviation over the validation images"


@dataclass(frozen=True, kw_only=True)
class Score:
    """A weighted mean of metrics."""

    sigma: float  # standard deviation of the validation depth, by which its RMSE is divided
    # by name in SCORED; their sum is 1
    weights: Mapping[str, float] = field(default_factory=lambda: DEFAULT_WEIGHTS)

    def compute(self, metrics: Mapping[str, float]) -> float:
        """Return the score for the metrics of an image or the means of several; missing metrics do not count.

        Raise ValueError if none of the weighted metrics is given.
        """
        known = {name: weight for name, weight in self.weights.items() if name in metrics}
        if not known:
            raise ValueError(f"{', '.join(self.weights)} cannot be measured without labels: there is nothing to score")
        parts = (weight * self._turn(name, metrics[name]) for name, weight in known.items())
        return sum(parts) / sum(known.values())

    def _turn(self, name: str, value: float) -> float:
        if name == "rmse_depth":
            return 1 - value / max(self.sigma, 1e-6)
        return 1 - value if METRICS[name].is_error else value


def read_weights(configured: Mapping[str, Any]) -> dict[str, float]:
    """Return the weights of the metrics, with sum 1, from the table `score` of a settings file.

    Only the named metrics count. `mask` and `depth` stand for the default metrics; if only one of them is given, the
    other gets the remaining weight. Raise ConfigError if a name is unknown or a weight is not a number from 0 to 1.
    """
    check_fields("score", (*DEFAULT_METRICS, *SCORED), configured)
    for name, value in configured.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ConfigError(f"score.{name} = {value!r} must be a number from 0 to 1")
    if len(configured) == 1 and configured.keys() <= DEFAULT_METRICS.keys():
        configured = {**dict.fromkeys(DEFAULT_METRICS, 1 - next(iter(configured.values()))), **configured}
    weights = dict.fromkeys(SCORED, 0.0)
    for name, value in configured.items():
        metric = DEFAULT_METRICS.get(name, name)
        if metric != name and metric in configured:
            raise ConfigError(f"score.{name} and score.{metric} name the same metric; give one of them")
        weights[metric] = float(value)
    total = sum(weights.values())
    if configured and not total:
        raise ConfigError("score: all weights are 0; give one above 0")
    return {name: round(value / total, 12) for name, value in weights.items() if value} or dict(DEFAULT_WEIGHTS)


def describe_score(weights: Mapping[str, float], known: Collection[str], sigma: str = SIGMA) -> str:
    """Return the formula of a score over the `known` metrics, with the text `sigma`."""
    counted = {name: weight for name, weight in weights.items() if name in known}
    unknown = find_tasks(weights) - find_tasks(counted)
    total, why = sum(counted.values()), "".join(f" (no {task} is known)" for task in unknown)
    shares = {name: "½" if 2 * weight == total else f"{weight / total:.2g}" for name, weight in counted.items()}
    parts = {name: describe_part(name, sigma) for name in counted}
    terms = [f"{shares[name]} · {part}" for name, part in parts.items()]
    if len(parts) == 1:
        terms = [part.removeprefix("(").removesuffix(")") for part in parts.values()]
    zero = "about 0" if "rmse_depth" in counted else "0"  # sigma is of the validation images, the guess of all
    guess = f"{zero} for a constant guess, " if counted.keys() <= ZERO_FOR_GUESS else ""
    return f"{' + '.join(terms)}{why}: {guess}1 for a perfect prediction"


def describe_part(name: str, sigma: str = SIGMA) -> str:
    """Return the term of a metric in the formula; an error is inverted so that 1 is perfect."""
    metric, unit = METRICS[name], f" / {sigma}" if name == "rmse_depth" else ""
    return f"(1 - {metric.title}{unit})" if metric.is_error else metric.title


def find_tasks(metrics: Iterable[str]) -> set[str]:
    """Return the labels that metrics need: "mask", "depth" or both."""
    return {task for name in metrics for task in METRICS[name].needs}
