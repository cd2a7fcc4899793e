"""Work spread over processes, or over whatever else does jobs. Knows nothing of what the work is."""

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TypeVar

import cv2

from data.dataset import DataError

AHEAD = 4  # jobs to a process that wait or are being done; results of more would pile up

Job = TypeVar("Job")
Result = TypeVar("Result")


class Helpers(ABC):
    """Others than processes of this machine, such as a cluster."""

    @abstractmethod
    def parallel_map(
        self, work: Callable[[Job], Result], jobs: Sequence[Job], folder: Path
    ) -> Iterator[tuple[Job, Result]]:
        """As the function of this name; all see `folder`, or it is refused."""


Workers = int | Helpers | None  # so many processes, or helpers; None: a process for every core; 1: this process


def parallel_map(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: Workers = None, *, folder: Path = Path()
) -> Iterator[tuple[Job, Result]]:
    """Do jobs, several at a time.

    Args:
        work: What to do; a function that can be pickled.
        jobs: What to do it to.
        workers: Who does it.
        folder: Where it writes to, if it does.

    Yields:
        Jobs and their results, in the order in which they end.

    Raises:
        DataError: A process was ended from outside, as the system does where memory runs out; or helpers do not see
            the folder.
    """
    if not isinstance(workers, int | None):
        yield from workers.parallel_map(work, jobs, folder)
        return
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers <= 1:
        yield from ((job, work(job)) for job in jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin_worker) as pool:
        try:
            yield from iterate_completed(lambda job: pool.submit(work, job), jobs, workers)
        except BrokenProcessPool as error:
            raise DataError("a worker process was ended; if memory ran out, try with fewer --workers") from error
        finally:
            pool.shutdown(cancel_futures=True)


def iterate_completed(
    submit: Callable[[Job], "Future[Result]"], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Result]]:
    """Hand out jobs, no more at a time than keep all workers busy; yield them and their results as they end."""
    pending: dict[Future[Result], Job] = {}
    for job in jobs:
        pending[submit(job)] = job
        if len(pending) >= AHEAD * workers:
            yield from _ended(pending)
    while pending:
        yield from _ended(pending)


def _ended(pending: dict[Future[Result], Job]) -> Iterator[tuple[Job, Result]]:
    """Wait until a job has ended, take out all that have."""
    for future in wait(pending, return_when=FIRST_COMPLETED).done:
        yield pending.pop(future), future.result()


def _begin_worker() -> None:
    """One thread for OpenCV; Ctrl-C is left to the parent, and a parent that was killed takes its workers along."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
