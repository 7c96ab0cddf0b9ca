"""Tasks of synthesis: done in processes of this machine or on a cluster, with the results in the order of the tasks."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

from asr.errors import InputError
from asr.system.signals import end_with_parent

T = TypeVar("T")
R = TypeVar("R")


class Spread(Protocol):
    """Does tasks somewhere, and yields each with its result, in their order."""

    def __call__(self, function: Callable[[T], R], tasks: Iterable[T]) -> Generator[tuple[T, R]]:
        """The function, the tasks and the results are pickled. A task may be done twice: it must write the same files."""


def in_processes(jobs: int) -> Spread:
    """Processes of this machine, each with at most two tasks at a time.

    Raises:
        InputError: ``jobs`` is below 1.
    """
    if jobs < 1:
        raise InputError(f"jobs is {jobs}, expected at least 1")
    return partial(_in_processes, jobs)


def _in_processes(jobs: int, function: Callable[[T], R], tasks: Iterable[T]) -> Generator[tuple[T, R]]:
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=end_with_parent)
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for task in tasks:
            waiting.append((task, pool.submit(function, task)))
            if len(waiting) == 2 * jobs:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    except BrokenProcessPool as error:
        found = f"one of {jobs} processes has ended, expected memory for all"
        raise InputError(f"jobs: {found}; fewer need less") from error
    finally:
        pool.shutdown(cancel_futures=True)


def record_elsewhere(function: Callable[[Any], R], task: Any) -> R:
    """Do a task of which the folder may not be there, on another machine.

    Raises:
        InputError: what it needs is not there, or it cannot write.
    """
    try:
        return function(task)
    except (OSError, RuntimeError) as error:  # soundfile raises RuntimeErrors
        where = "expected a folder with room that all machines share"
        raise InputError(f"{task.folder}: cannot be recorded ({error}), {where}") from error


def check_seen(path: Path) -> None:
    """Check a file that a task has written, on a machine that may be another one.

    Raises:
        InputError: it is not seen on this machine.
    """
    if not path.is_file():
        raise InputError(f"{path}: written, but not seen on this machine, expected a folder that all machines share")
