"""Map a function over jobs in several processes, or on a Ray cluster; Ray is imported only if an address is given."""

import logging
import os
import platform
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TypeVar

import cv2
import numpy as np

from data.dataset import DataError
from data.runtime.process import count_cores

AHEAD = 4  # submitted jobs per worker; with more of them, results would pile up

ANSWER_TIMEOUT_S = 10.0
MAX_TOGETHER = 16  # processes of `start_processes`
VERSIONS = f"OpenCV {cv2.__version__} and NumPy {np.__version__}"  # pixel values depend on these versions

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class RayCluster:
    """A joined Ray cluster; each of its cores does jobs as a process of this machine would."""

    cores: int

    @contextmanager
    def open_pool(self, work: Callable[[Job], Result], folder: Path) -> Iterator[Callable[[Job], "Future[Result]"]]:
        """Yield a function that submits a job; Ray repeats the jobs of a lost node elsewhere."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        here, shared, task = Path.cwd(), ray.put(work), ray.remote(num_cpus=1)(_run_job)
        try:
            yield lambda job: task.remote(here, folder, VERSIONS, shared, job).future()
        except RayTaskError as error:
            if not isinstance(error.cause, ImportError):
                raise error.cause from error
            raise DataError(f"a node is missing a module ({error.cause}); install the project there too") from error
        except RayError as error:
            raise DataError(f"a job failed on the cluster ({_first_sentence(error)}); check it, try again") from error


Workers = int | RayCluster | None  # number of processes (1: this process, None: one per core), or a cluster


def parallel_map(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: Workers = None, *, folder: Path = Path()
) -> Iterator[tuple[Job, Result]]:
    """Apply a function to jobs, several at a time; yield jobs and their results in order of completion.

    On a cluster, all nodes must have the function's module and access to the `folder` that it writes to.
    """
    if isinstance(workers, RayCluster):
        count, pool = workers.cores, workers.open_pool(work, folder)
    else:
        count = min(workers or count_cores(), len(jobs))
        if count <= 1:
            yield from ((job, work(job)) for job in jobs)
            return
        pool = _open_processes(work, count)
    with pool as submit:
        yield from _iterate_completed(submit, jobs, count)


@contextmanager
def _open_processes(work: Callable[[Job], Result], count: int) -> Iterator[Callable[[Job], "Future[Result]"]]:
    """Yield a function that submits a job to a pool of processes."""
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
        try:
            yield lambda job: pool.submit(work, job)
        except BrokenProcessPool as error:
            raise DataError("a worker process was killed; if memory ran out, use fewer --workers") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _iterate_completed(
    submit: Callable[[Job], "Future[Result]"], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Result]]:
    """Submit no more jobs at a time than keep all workers busy; yield jobs and results in order of completion."""
    left, pending = iter(jobs), dict[Future[Result], Job]()
    while True:
        pending |= {submit(job): job for job in islice(left, AHEAD * workers - len(pending))}
        if not pending:
            return
        for future in wait(pending, return_when=FIRST_COMPLETED).done:
            yield pending.pop(future), future.result()


def _start_worker(module: str | None = None) -> None:
    """Use one OpenCV thread, leave Ctrl-C to the parent, exit if the parent is killed, and import a module."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_exit_with_parent, daemon=True).start()
    if module is not None:
        import_module(module)


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def open_workers(processes: int | None, address: str | None) -> Iterator[int | RayCluster | None]:
    """Yield the number of processes of this machine, or a cluster that is left at the end of the context."""
    if address is None:
        yield processes
        return
    try:
        check_answer(address)
        import ray

        logging.getLogger("ray").setLevel(logging.CRITICAL)
        with _silence_stderr():
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        cores = int(ray.cluster_resources().get("CPU", 0))
        if cores < 1:
            raise ConnectionError("none of its nodes offers a core")
    except Exception as error:  # Ray's errors have no common base
        hint = "check that Ray runs there; if it requires a token, set RAY_AUTH_MODE=token"
        raise DataError(f"--address {address}: {_first_sentence(error)}; {hint}") from error
    try:
        yield RayCluster(cores)
    finally:
        ray.shutdown()


def check_answer(address: str) -> None:
    """Raise ConnectionError if nothing answers at host:port, which Ray would try to reach for minutes."""
    address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"{address} does not answer ({error})") from error


def start_processes(count: int, module: str) -> ProcessPoolExecutor:
    """Return processes of which `count` start at once and import a module."""
    spawn = get_context("spawn")
    pool = ProcessPoolExecutor(MAX_TOGETHER, mp_context=spawn, initializer=_start_worker, initargs=(module,))
    for _ in range(count):
        pool.submit(int)
    return pool


@contextmanager
def _silence_stderr() -> Iterator[None]:
    """Discard what Ray's C++ code writes to file descriptor 2 while it connects."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _run_job(here: Path, folder: Path, versions: str, work: Callable[[Job], Result], job: Job) -> Result:
    """Run a job in the driver's working directory; raise DataError if this node's paths or versions differ."""
    name = platform.node()
    if versions != VERSIONS:
        raise DataError(f"node {name} has {VERSIONS}, not {versions}; install the same, or images differ")
    for path, access in ((here, os.X_OK), (here / folder, os.W_OK)):
        if not os.access(path, access):
            raise DataError(f"node {name} cannot see {path}, or is not allowed to write to it; use a shared path")
    os.chdir(here)
    cv2.setNumThreads(1)
    return work(job)


def _first_sentence(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
