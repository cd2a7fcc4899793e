"""Map a function over jobs in several processes, or on a Ray cluster."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TypeVar

import cv2

from data.dataset import DataError
from data.runtime.cores import count_cores
from data.runtime.ray_map import RayCluster

AHEAD = 4  # submitted jobs per worker; with more of them, results would pile up

Job = TypeVar("Job")
Result = TypeVar("Result")
Workers = int | RayCluster | None  # number of processes (1: this process, None: one per core), or a cluster


def parallel_map(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: Workers = None, *, folder: Path = Path()
) -> Iterator[tuple[Job, Result]]:
    """Apply a function to jobs, several at a time.

    Args:
        work: The function; it can be pickled, and on a cluster its module is installed on every node.
        jobs: Its arguments.
        workers: Number of processes, or a cluster.
        folder: Folder that the function writes to; all nodes of a cluster must reach it.

    Yields:
        Jobs and their results, in order of completion.

    Raises:
        DataError: A process was killed, as the system does if memory runs out; or a node of the cluster is not usable.
    """
    if isinstance(workers, RayCluster):
        count, pool = workers.cores, workers.open_pool(work, folder)
    else:
        count = min(workers or count_cores(), len(jobs))
        pool = _open_processes(work, count)
        if count <= 1:
            yield from ((job, work(job)) for job in jobs)
            return
    with pool as submit:
        yield from _iterate_completed(submit, jobs, count)


@contextmanager
def _open_processes(work: Callable[[Job], Result], count: int) -> Iterator[Callable[[Job], "Future[Result]"]]:
    """Yield a function that submits a job to a pool of processes."""
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
        try:
            yield lambda job: pool.submit(work, job)
        except BrokenProcessPool as error:
            raise DataError("a worker process was ended; if memory ran out, try with fewer --workers") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _iterate_completed(
    submit: Callable[[Job], "Future[Result]"], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Result]]:
    """Submit no more jobs at a time than keep all workers busy; yield jobs and results in order of completion."""
    pending: dict[Future[Result], Job] = {}
    for job in jobs:
        pending[submit(job)] = job
        if len(pending) >= AHEAD * workers:
            yield from _pop_completed(pending)
    while pending:
        yield from _pop_completed(pending)


def _pop_completed(pending: dict["Future[Result]", Job]) -> Iterator[tuple[Job, Result]]:
    """Wait until a job completes, then yield all that have."""
    for future in wait(pending, return_when=FIRST_COMPLETED).done:
        yield pending.pop(future), future.result()


def _start_worker() -> None:
    """Use one OpenCV thread, leave Ctrl-C to the parent, and exit if the parent is killed."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
