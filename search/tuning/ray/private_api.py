"""Uses of Ray's private interfaces, collected here for upgrades; tried with ray 2.60.0."""

import random
from types import SimpleNamespace
from typing import Any

import ray
from ray.air._internal import usage
from ray.air.execution._internal import actor_manager
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler


def get_asha_rungs(scheduler: ASHAScheduler) -> dict[int, dict[str, float]]:
    """Return the scores recorded at each rung of an ASHA scheduler with one bracket, by epoch and trial."""
    return dict(scheduler._brackets[0]._rungs)


def keep_idle_workers(tune_controller: Any, trial: Trial, count: int, *, instead: Any = None) -> Any:
    """Let Ray Tune keep `count` idle workers with the resources of `trial`, and none with those of `instead`.

    Without this, Ray Tune ends the workers that wait for the last trial of a stage and starts new ones, which takes
    seconds, for the next stage. Workers with other GPU shares would hold resources that the next stage needs. Return
    the resources of the workers that are kept; `instead` if the controller has no cache of workers yet.
    """
    cache = getattr(tune_controller, "_actor_cache", None)
    if cache is None or trial.placement_group_factory == instead:
        return instead
    if instead is not None:
        cache.decrease_max(instead, by=count)
    cache.increase_max(trial.placement_group_factory, by=count)
    return trial.placement_group_factory


def leave_out_of_snapshots(tune_controller: Any) -> None:
    """Leave the trials out of the snapshot of the experiment that Ray Tune writes at its end.

    Nothing reads the snapshot, and it takes milliseconds and kilobytes per trial.
    """
    if hasattr(tune_controller, "_tune_controller"):
        tune_controller._tune_controller._get_trial_checkpoints = dict


def skip_usage_statistics() -> None:
    """Keep Ray Tune from counting callbacks for statistics, for which it would import MLflow, W&B and others."""
    usage.tag_callbacks = lambda callbacks: False


def rotate_futures() -> None:
    """Let Ray Tune start at a random future that it waits for, instead of shuffling all futures at every event.

    Either way, no worker is always served last. With 1,000 workers, shuffling takes a millisecond per event.
    """

    def rotate(futures: list[Any]) -> None:
        start = random.randrange(len(futures) or 1)
        futures[:] = futures[start:] + futures[:start]

    actor_manager.random = SimpleNamespace(**vars(random) | {"shuffle": rotate})


def set_process_title(title: str) -> None:
    """Set the name under which Ray's dashboard and `ps` show this worker; Ray resets it before each call."""
    ray._raylet.setproctitle(title)
