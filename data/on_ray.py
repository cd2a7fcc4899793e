"""Work spread over a Ray cluster. Knows nothing of what the work is; Ray is imported where a cluster is asked for."""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from data.dataset import DataError
from data.parallel import Helpers, Workers, as_they_end

ANSWERS_WITHIN_S = 10.0

Job = TypeVar("Job")
Result = TypeVar("Result")


@contextmanager
def all_workers(processes: int | None, address: str | None) -> Iterator[Workers]:
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

    def in_parallel(
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

        _check_nodes(folder)
        here, shared, task = Path.cwd(), ray.put(work), ray.remote(num_cpus=1)(_do)
        try:
            yield from as_they_end(lambda job: task.remote(here, shared, job).future(), jobs, self.cores)
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            raise DataError(f"the cluster gave a job up ({_line(error)}); look after it and try again") from error


def _do(here: Path, work: Callable[[Job], Result], job: Job) -> Result:
    """Do a job as this machine would: paths are relative to where the command was given."""
    os.chdir(here)
    cv2.setNumThreads(1)
    return work(job)


def _check_nodes(folder: Path) -> None:
    """Let every node look whether it can do what this machine can.

    Raises:
        DataError: One does not see a folder, has other versions, or does not know this program.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here, look = Path.cwd(), ray.remote(num_cpus=0)(_look)
    mine, theirs = _look(here, folder), {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU"):
            only_there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            theirs[look.options(scheduling_strategy=only_there).remote(here, folder)] = node["NodeManagerHostname"]
    for answer, name in theirs.items():
        try:
            found = ray.get(answer)
        except RayError as error:
            reason = _line(getattr(error, "cause", error))
            raise DataError(f"node {name}: {reason}; all nodes need the same files and programs") from error
        if found != mine:
            raise DataError(f"node {name}: has {found}, this machine {mine}; install the same, or pictures differ")


def _look(here: Path, folder: Path) -> str:
    """Versions on which pictures depend.

    Raises:
        DataError: A folder is not here.
    """
    for place, needed in ((here, os.X_OK), (here / folder, os.W_OK)):
        if not os.access(place, needed):
            raise DataError(f"{place} is not there, or must not be written to")
    return f"OpenCV {cv2.__version__} and NumPy {np.__version__}"


def _line(error: Exception) -> str:
    """The first sentence of an error; Ray's have many."""
    return str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
