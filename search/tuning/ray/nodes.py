"""Ask each node of a cluster, before a run claims its folder, whether trials can be trained there."""

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data.runtime.files import cache_dir
from search.records.disk import find_existing_folder
from search.records.run_state import describe_process

ANSWER_S = 60.0  # for the nodes to start a process each, which imports Ray


def check_nodes(folder: Path) -> None:
    """Check that all nodes with a core have this process's versions, and see its cache and the place of a run folder.

    Raises:
        ConnectionError: Some do not; the message has a line for each of them.
    """
    places = {"the cache (ONE_LOOK_CACHE)": cache_dir(), "the run folder's place": find_existing_folder(folder)}
    with ExitStack() as stack:
        marks = {name: stack.enter_context(_leave_mark(place)) for name, place in places.items()}
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        asked = [_ask(node["NodeID"], find_versions(), marks) for node in nodes]
        ray.wait(asked, num_returns=len(asked), timeout=ANSWER_S)
        found = [(node["NodeManagerHostname"], _await(answer)) for node, answer in zip(nodes, asked, strict=True)]
    lines = [f"  {name}: {'; '.join(faults)}" for name, faults in found if faults]
    if lines:
        count = f"{len(lines)} of {len(nodes)} nodes cannot train trials"
        raise ConnectionError("\n".join([f"{count}; mend or remove them:", *lines]))


def find_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages on which a training depends."""
    process = describe_process()
    return {"Python": process["python"], **process["versions"]}


def find_faults(versions: Mapping[str, str], marks: Mapping[str, Path]) -> list[str]:
    """Return what differs on this node from the driver, which left `marks` in the folders that all nodes share."""
    own = find_versions()
    faults = [
        f"{name} {own.get(name, 'is not installed')} instead of {version}"
        for name, version in versions.items()
        if own.get(name) != version
    ]
    for name, mark in marks.items():
        if not mark.exists():
            faults.append(f"does not see {name} {mark.parent}")
        elif not os.access(mark.parent, os.W_OK):
            faults.append(f"must not write to {name} {mark.parent}")
    return faults


def _ask(node_id: str, versions: Mapping[str, str], marks: Mapping[str, Path]) -> "ray.ObjectRef":
    pinned = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(num_cpus=0)(find_faults).options(scheduling_strategy=pinned).remote(versions, marks)


def _await(answer: "ray.ObjectRef") -> Sequence[str]:
    """Return the faults that a node has found, or why it found none."""
    try:
        faults: list[str] = ray.get(answer, timeout=0)
    except GetTimeoutError:
        return [f"does not answer within {ANSWER_S:.0f} s"]
    except RayError as error:  # such as a module that is not installed there
        cause = getattr(error, "cause", None) or error
        reason = f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"
        return [f"cannot be asked ({reason}); install the project there"]
    return faults


@contextmanager
def _leave_mark(place: Path) -> Iterator[Path]:
    """Yield an empty file of a new name in a folder, which no other folder of the same name has."""
    place.mkdir(parents=True, exist_ok=True)
    mark = place / f".one-look-{uuid.uuid4().hex}"
    mark.touch()
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)
