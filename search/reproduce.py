"""A trial of a run, trained again from its record and compared with it by epochs. Knows neither Ray nor Optuna."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.data_module import StageData
from data.dataset import DataError
from data.runtime.progress import progress_bar
from models.config import ConfigError
from search.archive import NotOnRecordError, RunRecords, TrialHistory
from search.records.run_dir import RunDirError
from search.training.micro_batches import TrialOutOfMemoryError
from search.training.trainer import FitPlan, State, TrialDivergedError, fit

OF_THE_MACHINE = {"train_s", "fit_s", "predictions", "replay"}  # in a report, and no figure that could be the same
Say = Callable[[str], None]


class _Enough(Exception):  # noqa: N818 - not an error
    """All epochs on record have been trained again, as Ray ends a trial that it stops: in the middle of its report."""


class Comparison:
    """Listens to `fit` and holds each epoch against the record.

    Attributes:
        different: What differs, a line for each epoch.
        weights: Those that the last epoch on record left.

    Args:
        past: The record.
        say: Called with a line for each epoch.
        told: Called with steps done and steps in all, or None.
    """

    def __init__(self, past: TrialHistory, say: Say, told: Callable[[int, int], None] | None) -> None:
        self.past, self.say, self.told = past, say, told
        self.different: list[str] = []
        self.weights: State = {}
        self._steps = 0

    def on_step(self, rate: float, loss: Tensor) -> None:
        """Show how far the training is."""
        del rate, loss
        self._steps += 1
        if self.told is not None:
            self.told(self._steps, self.past.steps)

    def report(self, metrics: dict[str, Any], state: Callable[[], State]) -> None:
        """Compare one epoch.

        Raises:
            _Enough: It is the last on record.
        """
        epoch, reports = int(metrics["epoch"]), self.past.reports
        if epoch > len(reports):
            self._differs(epoch, f"the record says {self.past.record.reason}, it ends with score {metrics['score']}")
            raise _Enough
        found = differences(reports[epoch - 1], metrics)
        if found:
            more = f", and {len(found) - 1} metrics more" if len(found) > 1 else ""
            self._differs(epoch, found[0] + more)
        else:
            self.say(f"  epoch {epoch}: same, score {metrics['score']:.4f}")
        if epoch == len(reports) and not self.past.failed:
            self.weights = state()["model"]
            raise _Enough

    def failed(self, error: RuntimeError) -> None:
        """Compare the reason of a failure."""
        reason, recorded = str(error).splitlines()[0], self.past.record.reason
        if self.past.failed and reason == recorded:
            self.say(f"  failed as on record: {reason}")
        else:
            self.different.append(f"it failed, {reason}; the record says {recorded or self.past.record.status}")
            self.say(f"  different: {self.different[-1]}")

    def ended(self) -> None:
        """Compare a training that came to its end with a record that goes on."""
        self.different.append("it came to its end; the record goes on")
        self.say(f"  different: {self.different[-1]}")

    def _differs(self, epoch: int, what: str) -> None:
        self.different.append(f"epoch {epoch}: {what}")
        self.say(f"  epoch {epoch}: different, {what}")


def differences(recorded: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """Return how each figure of an epoch that is not the same differs: both values and how far they are apart.

    Args:
        recorded: A line of reports.jsonl.
        metrics: A report of `fit`.
    """
    now = {"epochs" if name == "epoch" else name: v for name, v in metrics.items() if name not in OF_THE_MACHINE}
    found = []
    for name, value in now.items():
        was = recorded.get(name)
        if was != value:
            numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (was, value))
            apart = f", {abs(value - was):.3g} apart" if numbers and was is not None else ""
            found.append(f"{name} was {was!r}, is {value!r}{apart}")
    return found


def reproduce_trial(archive: RunRecords, trial_id: str, say: Say, *, device: str | None = None) -> Comparison:
    """Train a trial again as far as its record goes, its parent before it where the weights of that are gone.

    Args:
        archive: The run.
        trial_id: Of trials.csv.
        say: Called with a line for each epoch.
        device: torch device; None for that of the record.

    Raises:
        NotOnRecordError: The record does not hold what that takes.
        DataError: The data have changed.
    """
    past = archive.past(trial_id)
    plan = replace(past.plan, device=device or past.plan.device)
    if plan.device == "cuda" and not torch.cuda.is_available():
        raise NotOnRecordError(f"{trial_id} would train on a GPU, and there is none here; --device cpu does without")
    data = archive.data(past)
    weights, different = _beginning(archive, past, say, device)
    say(past.headline)
    with progress_bar(f"training {trial_id} again") as told:
        comparison = Comparison(past, say, told)
        comparison.different += different
        _train(past, data, plan, weights, comparison)
    return comparison


def _beginning(archive: RunRecords, past: TrialHistory, say: Say, device: str | None) -> tuple[State | None, list[str]]:
    """Return the weights that a trial began with, None for its own, and how they differ where they are made anew."""
    parent_id = past.record.parent_id
    if not parent_id:
        return None, []
    weights = archive.weights(parent_id)
    if weights is not None:
        return weights, []
    say(f"the weights of {parent_id}, with which {past.record.trial_id} began, are gone: it is trained again first")
    parent = reproduce_trial(archive, parent_id, say, device=device)
    return parent.weights, [f"its parent {parent_id}, {line}" for line in parent.different[:1]]


def _train(past: TrialHistory, data: StageData, plan: FitPlan, weights: State | None, comparison: Comparison) -> None:
    """Train, and let the comparison hear of it, until all that is on record has been compared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(past.threads)
    listening: dict[str, Any] = {"report": comparison.report, "on_step": comparison.on_step}
    try:
        with suppress(_Enough):
            fit(past.config, data, plan, **listening, weights=weights, recorded_clock=past.clock)
            comparison.ended()
    except (TrialDivergedError, TrialOutOfMemoryError) as error:
        comparison.failed(error)
    finally:
        torch.set_num_threads(threads)


def main(argv: Sequence[str] | None = None) -> int:
    """Train a trial again from the command line.

    Args:
        argv: Arguments without the program's name. None: those of the process.

    Returns:
        Exit code: 0 the same metrics, 1 different ones, 2 the user's mistake.
    """
    parser = argparse.ArgumentParser(
        prog="python -m search.reproduce",
        description="Train a trial of a run again from its record, and say whether it gets the same metrics.",
    )
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("trial_id", help="of trials.csv, such as e0007")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to train (default: where it was trained)")
    args = parser.parse_args(argv)
    try:
        archive = RunRecords(args.run)
        for line in archive.changes():
            print(line)
        comparison = reproduce_trial(archive, args.trial_id, lambda line: print(line, flush=True), device=args.device)
    except (NotOnRecordError, RunDirError, ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(_verdict(args.trial_id, comparison))
    return 1 if comparison.different else 0


def _verdict(trial_id: str, comparison: Comparison) -> str:
    if comparison.different:
        return f"{trial_id}: different; first, {comparison.different[0]}"
    return f"{trial_id}: the same, bit for bit"


if __name__ == "__main__":
    sys.exit(main())
