"""Work spread over a Ray cluster. Knows nothing of what the work is; Ray is imported where a cluster is asked for."""

import logging
import os
import platform
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from data.dataset import DataError
from data.runtime.parallel import Helpers, Workers, iterate_completed

ANSWERS_WITHIN_S = 10.0

Job = TypeVar("Job")
Result = TypeVar("Result")


@contextmanager
def open_workers(processes: int | None, address: str | None) -> Iterator[Workers]:
    """Who works: processes of this machine, or for as long as the context lasts a cluster.

    Raises:
        DataError: There is no cluster at the address.
    """
    if address is None:
        yield processes
        return
    cluster = _join(address)
    try:
        yield cluster
    finally:
        import ray

        ray.shutdown()


def check_answer(address: str) -> None:
    """See whether anybody is there; Ray itself would try for ever.

    Args:
        address: As Ray takes it; only host:port can be asked.

    Raises:
        ConnectionError: Nobody answers.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWERS_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"{address} does not answer ({error})") from error


def _join(address: str) -> "Cluster":
    try:
        check_answer(address)
        import ray

        logging.getLogger("ray").setLevel(logging.CRITICAL)
        with _hushed():
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        cores = int(ray.cluster_resources().get("CPU", 0))
    except Exception as error:  # Ray's have no common base
        hint = "see that Ray runs there; where it asks for a token, set RAY_AUTH_MODE=token"
        raise DataError(f"--address {address}: {_line(error)}; {hint}") from error
    if cores < 1:
        raise DataError(f"--address {address}: none of its nodes offers a core; start one with ray start")
    return Cluster(cores)


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep what Ray says of each attempt to join off the terminal: it writes past Python."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class Cluster(Helpers):
    """The Ray cluster that was joined, each of whose cores does jobs as processes of this machine do."""

    def __init__(self, cores: int) -> None:
        self.cores = cores

    def parallel_map(
        self, work: Callable[[Job], Result], jobs: Sequence[Job], folder: Path
    ) -> Iterator[tuple[Job, Result]]:
        """Do jobs; what a lost node had is done again elsewhere.

        Args:
            work: What to do; a function that can be pickled, whose module is installed on every node.
            jobs: What to do it to.
            folder: Where it writes to.

        Yields:
            Jobs and their results, in the order in which they end.

        Raises:
            DataError: A node does not see the folder, or is unlike this machine; or a job ended its worker time and
                again.
        """
        if not jobs:
            return
        import ray
        from ray.exceptions import RayError, RayTaskError

        look = partial(_look, Path.cwd(), folder, _versions())
        _check_nodes(look)
        shared, task = ray.put(work), ray.remote(num_cpus=1)(_do)
        try:
            yield from iterate_completed(lambda job: task.remote(look, shared, job).future(), jobs, self.cores)
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            raise DataError(f"the cluster gave a job up ({_line(error)}); look after it and try again") from error


def _do(look: Callable[[], None], work: Callable[[Job], Result], job: Job) -> Result:
    """Do a job, on a node that may have joined just now."""
    look()
    cv2.setNumThreads(1)
    return work(job)


def _look(here: Path, folder: Path, versions: str) -> None:
    """See that this node does as the machine does where the command was given, and be where that is.

    Raises:
        DataError: It does not see a folder, or has other versions.
    """
    name, mine = platform.node(), _versions()
    if mine != versions:
        raise DataError(f"node {name} has {mine}, not {versions}; install the same, or pictures differ")
    for place, needed in ((here, os.X_OK), (here / folder, os.W_OK)):
        if not os.access(place, needed):
            raise DataError(f"node {name} does not see {place}, or must not write to it; state what all nodes share")
    os.chdir(here)


def _versions() -> str:
    """Those on which pictures depend."""
    return f"OpenCV {cv2.__version__} and NumPy {np.__version__}"


def _check_nodes(look: Callable[[], None]) -> None:
    """Let every node look.

    Raises:
        DataError: One cannot do the work.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task, asked = ray.remote(num_cpus=0)(_do), {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU"):
            only_there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answer = task.options(scheduling_strategy=only_there).remote(look, _nothing, None)
            asked[answer] = node["NodeManagerHostname"]
    for answer, name in asked.items():
        try:
            ray.get(answer)
        except RayError as error:
            cause = getattr(error, "cause", error)
            if isinstance(cause, DataError):
                raise cause from error
            raise DataError(f"node {name}: {_line(cause)}; install the project there as it is here") from error


def _nothing(_: None) -> None:
    """No work, to see who could do some."""


def _line(error: Exception) -> str:
    """The first sentence of an error; Ray's have many."""
    return str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
