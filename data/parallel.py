"""Work spread over processes. Knows nothing of what the work is."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

import cv2

from data.dataset import DataError

AHEAD = 4  # jobs to a process that wait or are being done; results of more would pile up

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_parallel(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None = None
) -> Iterator[tuple[Job, Result]]:
    """Do jobs, several at a time.

    Args:
        work: What to do; a function that can be pickled.
        jobs: What to do it to.
        workers: Processes; the number of cores if None. 1 works in this process.

    Yields:
        Jobs and their results, in the order in which they end.

    Raises:
        DataError: A process was ended from outside, as the system does where memory runs out.
    """
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers <= 1:
        yield from ((job, work(job)) for job in jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin_worker) as pool:
        pending: dict[Future[Result], Job] = {}
        try:
            for job in jobs:
                pending[pool.submit(work, job)] = job
                if len(pending) >= AHEAD * workers:
                    yield from _ended(pending)
            while pending:
                yield from _ended(pending)
        except BrokenProcessPool as error:
            raise DataError("a worker process was ended; if memory ran out, try with fewer --workers") from error
        finally:
            pool.shutdown(cancel_futures=True)


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
