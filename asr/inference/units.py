"""Bulk work in units: what a unit and its outcome are, and how this process does units in threads.

A unit names its data in few bytes; whoever does it reads the data and writes the results. ``asr.cluster`` does the same
units elsewhere. The results of a unit depend on nothing but the unit: it makes its own batches, and computes with one
thread of torch, because products in bfloat16 round differently with more. A single unit has all processors instead.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from typing import Generic, Protocol, TypeVar, cast

from asr.errors import InputError
from asr.system.threads import in_threads

U = TypeVar("U")
R = TypeVar("R")


Loading = tuple[str, str, str]
"""Device, precision and decoder: how a worker loads a model."""


class WorkersEndedError(InputError):
    """Every process that began a unit has ended before it was done."""


Make = Callable[[], Callable[[U], R]]
"""Loads what the work needs, such as a model, and returns the work. Each worker calls it once."""


@dataclass(frozen=True)
class Outcome(Generic[U, R]):
    """The unit of this number, with its result, or with the error if it failed."""

    number: int
    unit: U
    result: R | None
    error: InputError | None = None


class Run(Protocol):
    """Does units and yields their outcomes as they finish."""

    def __call__(self, make: Make[U, R], units: Iterable[U], total: int) -> Generator[Outcome[U, R]]:
        """``total`` is the number of units. They are taken from the iterable when a worker is free."""


def run_here(make: Make[U, R], units: Iterable[U], total: int, threads: int = 0) -> Generator[Outcome[U, R]]:
    """Do units in threads of this process, 0 for one a processor; the outcomes are in the order of the units."""
    import torch

    numbered = enumerate(units)
    first = list(islice(numbered, 1))
    if not first:
        return
    work = make()

    def attempt(numbered_unit: tuple[int, U]) -> Outcome[U, R]:
        number, unit = numbered_unit
        try:
            return Outcome(number, unit, work(unit))
        except InputError as error:
            return Outcome(number, unit, None, error)

    if total == 1:
        yield attempt(first[0])
        return
    yield from in_threads(attempt, chain(first, numbered), min(threads or torch.get_num_threads(), total))


def in_order(outcomes: Generator[Outcome[U, R]]) -> Generator[tuple[U, R]]:
    """Each unit with its result, in the order of the units. Those that finish early wait.

    Raises:
        InputError: a unit has failed.
    """
    early: dict[int, tuple[U, R]] = {}
    due = 0
    with closing(outcomes):  # after an error, nobody works on
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
            early[outcome.number] = outcome.unit, cast(R, outcome.result)
            while due in early:
                yield early.pop(due)
                due += 1


def returning(function: Callable[[U], R]) -> Callable[[U], R]:
    """The function itself: what `Make` is for a function that needs nothing loaded."""
    return function


def fix_precision(loading: Loading) -> Loading:
    """Choose the precision of auto as this machine would, so that all workers compute in the same."""
    import torch

    from asr.system.processor import choose_precision

    device, precision, decoder = loading
    if device != "cpu":  # there may be none here
        return loading
    return device, choose_precision(precision, torch.device(device)).name, decoder
