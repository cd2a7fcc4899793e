"""Ask each node of a cluster, before a run claims its folder, whether trials can be trained there; count them later."""

import hashlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import GetTimeoutError, RayError
from ray.tune.search import ConcurrencyLimiter
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data.runtime.cli import first_line, format_count
from data.runtime.files import find_cache_folder
from data.runtime.storage import name_storage, open_place
from search.records.disk import find_existing_folder
from search.records.run_state import describe_process
from search.tuning.ray.session import SHIPPED

LOOK_S = 10.0  # seconds between two looks at the nodes
ANSWER_S = 60.0  # seconds for each node to start a process, which imports Ray


def check_nodes(folder: Path, storage: str | None = None) -> None:
    """Raise ConnectionError unless all nodes with a core have this process's versions and can access the shared places.

    The shared place is the URI `storage` of the run or, without one, this process's cache and the place of the run
    folder.
    """
    shared = {"the cache (ONE_LOOK_CACHE)": find_cache_folder(), "the run folder's place": find_existing_folder(folder)}
    places: Mapping[str, str | Path] = {"the storage": storage} if storage else shared
    mark = f".one-look-{uuid.uuid4().hex}"
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not nodes:
        raise ConnectionError("no node of the cluster has a core; start Ray on one with --num-cpus")
    with ExitStack() as stack:
        for location in places.values():
            with name_storage(str(location)):
                place = open_place(location)
                place.write(mark, b"")
            stack.callback(place.delete, mark)
        asked = [_ask(node["NodeID"], find_versions(), places, mark) for node in nodes]
        ray.wait(asked, num_returns=len(asked), timeout=ANSWER_S)
        found = [(node["NodeManagerHostname"], _await(answer)) for node, answer in zip(nodes, asked, strict=True)]
    lines = [f"  {name}: {'; '.join(faults)}" for name, faults in found if faults]
    if lines:
        count = f"{len(lines)} of {len(nodes)} nodes cannot train trials"
        raise ConnectionError("\n".join([f"{count}; repair or remove them:", *lines]))


def find_versions() -> dict[str, str]:
    """Return the versions of Python and the packages that a training depends on, and a hash of the project's code."""
    process, code = describe_process(), hashlib.blake2b(digest_size=6)
    for root in (Path(import_module(name).__path__[0]) for name in SHIPPED):
        for path in sorted(root.rglob("*.py")):
            code.update(str(path.relative_to(root.parent)).encode() + path.read_bytes())
    return {"Python": process["python"], **process["versions"], "the project's code": code.hexdigest()}


def find_faults(versions: Mapping[str, str], places: Mapping[str, str | Path], mark: str) -> list[str]:
    """Return what differs on this node from the driver, which left files named `mark` in the shared places."""
    own = find_versions()
    faults = [
        f"{name} {own.get(name, 'is not installed')} instead of {version}"
        for name, version in versions.items()
        if own.get(name) != version
    ]
    for about, location in places.items():
        try:
            place = open_place(location)
            if not place.has(mark):
                faults.append(f"cannot see {about} {location}")
                continue
            place.write(reply := f"{mark}-{uuid.uuid4().hex}", b"")
            place.delete(reply)
        except OSError as error:
            faults.append(f"is not allowed to write to {about} {location} ({first_line(error)})")
    return faults


def _ask(node_id: str, versions: Mapping[str, str], places: Mapping[str, str | Path], mark: str) -> "ray.ObjectRef":
    pinned = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(num_cpus=0)(find_faults).options(scheduling_strategy=pinned).remote(versions, places, mark)


def _await(answer: "ray.ObjectRef") -> Sequence[str]:
    """Return the faults that a node found, or the reason why it did not answer."""
    try:
        faults: list[str] = ray.get(answer, timeout=0)
    except GetTimeoutError:
        return [f"does not answer within {ANSWER_S:.0f} s"]
    except RayError as error:  # such as a module that is not installed there
        cause = getattr(error, "cause", None) or error
        reason = f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"
        return [f"cannot be asked ({reason}); install the project there"]
    return faults


@dataclass
class NodeWatch(tune.Callback):
    """Lets more trials run at the same time once nodes have joined the cluster, and fewer once some have left it."""

    limiter: ConcurrencyLimiter  # of Ray Tune's searcher
    count_workers: Callable[[], int]
    report: Callable[[str], None]  # prints a line
    _next: float = 0.0  # moment of time.monotonic() of the next look

    def __getstate__(self) -> dict[str, Any]:
        """Return an empty state for Ray Tune to pickle."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Compare the number of workers with the limit every LOOK_S."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_S
        workers, before = max(self.count_workers(), 1), self.limiter.max_concurrent
        if workers != before:
            self.limiter.set_max_concurrency(workers)
            self.report(f"  the cluster now has {format_count(workers, 'worker')} (before: {before})")
