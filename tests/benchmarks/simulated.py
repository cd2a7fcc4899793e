"""Any number of workers that train in simulated time, for the benchmark of the driver.

Ray Tune's loop with all of its Python is real, and so are searcher, scheduler and records. `ray.remote`, `ray.wait` and
`ray.get` are replaced where Ray Tune uses them, and time.monotonic() by a clock that counts the processor time of this
process, jumps to the next report while the driver waits, and stands still while a worker's part is computed. What the
driver computes is therefore counted as it is, without what Ray's servers, the network and the disk take.
"""

import heapq
import itertools
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import ray
from ray import cloudpickle, tune
from ray.air.execution import FixedResourceManager
from ray.air.execution._internal import actor_manager, event_manager
from ray.train._internal import storage as storage_context
from ray.train._internal.session import _TrainingResult
from ray.tune import tune as tune_entry
from ray.tune.execution import tune_controller
from ray.tune.result import DONE, RESULT_DUPLICATE, SHOULD_CHECKPOINT, TRAINING_ITERATION

from search.tuning.ray.resources import Cluster
from search.tuning.ray.session import configure
from search.tuning.ray.trainable import LOGGED, add_ages, split_reports, train_trial

read_clock = time.process_time  # which other programs do not delay
Report = tuple[dict[str, Any], tune.Checkpoint | None]


class Clock:
    """Reads the seconds of processor time, jumps added and pauses left out.

    Attributes:
        paused_s: Processor time of the pauses.
    """

    def __init__(self) -> None:
        self._offset = self.paused_s = 0.0

    def __call__(self) -> float:
        return read_clock() + self._offset

    def jump(self, moment: float) -> None:
        """Go on at a later moment."""
        self._offset += max(0.0, moment - self())

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stand still."""
        began = read_clock()
        try:
            yield
        finally:
            paused = read_clock() - began
            self._offset -= paused
            self.paused_s += paused


class Room(FixedResourceManager):
    """Resources without limit: Ray Tune runs as many trials at once as it has been told to."""

    def __init__(self) -> None:
        self._allow_strict_pack = True
        self.clear()

    def has_resources_ready(self, resource_request: Any) -> bool:
        """Return True."""
        return True


class Call:
    """The result of a call, as a reference to an object is one."""

    def __init__(self, value: Any, due: float) -> None:
        self.value, self.due = value, due


class SimulatedRay:
    """The part of `ray` that Ray Tune's actor manager uses.

    Attributes:
        trained_s: Seconds in which workers have trained.
    """

    def __init__(self, clock: Clock, epoch_s: float) -> None:
        self.clock, self.epoch_s, self.trained_s = clock, epoch_s, 0.0
        self._calls: list[tuple[float, int, Call]] = []
        self._numbers = itertools.count()
        self.actor = SimpleNamespace(ActorClass=SimulatedWorker)  # Ray's own classes still go through `remote`
        self.ObjectRef = Call

    def remote(self, actor_class: Any) -> Any:
        """Return what starts a worker, whichever options it gets."""
        del actor_class
        start = SimpleNamespace(remote=lambda **options: SimulatedWorker(self, **_send(options)))
        start.options = lambda **_: start
        return start

    def add(self, value: Any, after_s: float) -> Call:
        """Return a call whose result is there after some seconds."""
        call = Call(value, self.clock() + after_s)
        heapq.heappush(self._calls, (call.due, next(self._numbers), call))
        return call

    def wait(self, calls: Sequence[Call], *, num_returns: int, timeout: float) -> tuple[list[Call], list[Call]]:
        """Return the first call whose result is there; go on with the clock until then, by `timeout` at most."""
        assert num_returns == 1
        until, waited = self.clock() + timeout, set(calls)
        while self._calls and self._calls[0][0] <= until:
            due, _, call = heapq.heappop(self._calls)
            if call in waited:
                self.clock.jump(due)
                return [call], []
        self.clock.jump(until)
        return [], []

    def get(self, call: Call) -> Any:
        """Return the result of a call."""
        return call.value


class SimulatedWorker:
    """A worker; each of its methods has a `remote`, as those of an actor."""

    def __init__(self, cluster: SimulatedRay, *, config: dict[str, Any], storage: Any) -> None:
        self._cluster = cluster
        self._begin(config, storage)

    def __getattr__(self, name: str) -> Any:
        answer: Callable[..., Any] = getattr(SimulatedWorker, f"answer_{name.strip('_')}")
        return SimpleNamespace(remote=lambda *args, **options: answer(self, *_send(args), **_send(options)))

    def _begin(self, config: dict[str, Any], storage: Any) -> None:
        with self._cluster.clock.stopped():
            self._reports = list_reports(config, storage)
        self._number, self._held, self._report_s = 0, [], config["spec"].context.report_s

    def answer_ray_ready(self) -> Call:
        """Start the process."""
        return self._cluster.add(None, 0.0)

    def answer_get_auto_filled_metrics(self, **options: bool) -> dict[str, Any]:
        """Return what Ray Tune takes as the result of a trial that has not reported."""
        return {}

    def answer_stop(self) -> Call:
        """End the process."""
        return self._cluster.add(None, 0.0)

    def answer_ray_terminate(self) -> Call:
        """End the process."""
        return self._cluster.add(None, 0.0)

    def answer_reset(self, config: dict[str, Any], storage: Any) -> Call:
        """Prepare for another trial."""
        self._begin(config, storage)
        return self._cluster.add(True, 0.0)

    def answer_train(self) -> Call:
        """Train an epoch."""
        result, took_s = self._train()
        return self._cluster.add(_send(result), took_s)

    def answer_train_buffered(self, *limits: float) -> Call:
        """Train epochs until one is saved or the time is over, as a `Worker` does."""
        results, took_s = list(self._held), 0.0
        while not results or not (took_s >= self._report_s or _is_last(results[-1])):
            result, seconds = self._train()
            results.append(result)
            took_s += seconds
        results, self._held = split_reports(results if self._held else add_ages(results))
        return self._cluster.add(_send(results), took_s)

    def answer_save(self) -> Call:
        """Return the checkpoint of the last report."""
        result, checkpoint = self._reports[self._number - 1]
        metrics = {name: value for name, value in result.items() if name not in LOGGED}
        return self._cluster.add(_TrainingResult(checkpoint, metrics), 0.0)

    def _train(self) -> tuple[dict[str, Any], float]:
        """Return the next report and the seconds that it took."""
        if self._number == len(self._reports):
            return {RESULT_DUPLICATE: True}, 0.0
        result, checkpoint = self._reports[self._number]
        self._number += 1
        self._cluster.trained_s += self._cluster.epoch_s
        return (result | {SHOULD_CHECKPOINT: True} if checkpoint else result), self._cluster.epoch_s


def _is_last(result: dict[str, Any]) -> bool:
    """Return whether Ray Tune collects no report after this one."""
    return bool(result.get(DONE) or result.get(SHOULD_CHECKPOINT) or RESULT_DUPLICATE in result)


def _send(value: Any) -> Any:
    """Return a value as another process would get it."""
    return cloudpickle.loads(cloudpickle.dumps(value))


def list_reports(config: dict[str, Any], storage: Any) -> list[Report]:
    """Return all reports of a trial, whose checkpoints are in its folder."""
    reports: list[Report] = []

    def keep(result: dict[str, Any], checkpoint: tune.Checkpoint | None = None) -> None:
        number = len(reports) + 1
        if checkpoint:
            folder = Path(storage.trial_fs_path) / f"checkpoint_{number:06d}"
            shutil.copytree(checkpoint.path, folder)
            checkpoint = tune.Checkpoint.from_directory(str(folder))
        filled = {TRAINING_ITERATION: number, "time_total_s": 1.0 * number, "time_this_iter_s": 1.0}
        filled |= {"pid": os.getpid(), "hostname": platform.node(), "node_ip": "127.0.0.1", "timestamp": 0}
        reports.append((filled | result, checkpoint))

    with patch.object(tune, "report", keep):
        train_trial(config)
    return reports


def describe_cluster(workers: int) -> Cluster:
    """Return a cluster with a core for each worker."""
    return Cluster(cpus=workers, node_cpus=workers, gpus=0, node_memory_mib=0.0, dashboard="", local=True)


@contextmanager
def simulate_workers(workers: int, epoch_s: float) -> Iterator[SimulatedRay]:
    """Let Ray Tune have so many workers, in each of which an epoch takes so long."""
    configure()
    clock = Clock()
    cluster = SimulatedRay(clock, epoch_s)
    with ExitStack() as stack:
        for module in (actor_manager, event_manager):
            stack.enter_context(patch.object(module, "ray", cluster))
        stack.enter_context(patch.object(tune_controller, "PlacementGroupResourceManager", Room))
        stack.enter_context(patch.object(tune_entry, "_ray_auto_init"))
        session = stack.enter_context(TemporaryDirectory())
        stack.enter_context(patch.object(storage_context, "_get_ray_train_session_dir", lambda: session))
        stack.enter_context(patch.object(ray, "cluster_resources", lambda: {"CPU": float(workers)}))
        stack.enter_context(patch("time.monotonic", clock))
        yield cluster
