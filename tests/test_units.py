"""Bulk work in threads of one process."""

from collections.abc import Callable, Generator, Iterator

import pytest
import torch

from asr.errors import InputError
from asr.inference.units import Outcome, in_order, run_here


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def make() -> Callable[[int], int]:
    return lambda unit: torch.get_num_threads()


@pytest.mark.parametrize(("units", "threads"), [(1, 2), (2, 1), (5, 1)])
def test_a_single_unit_has_all_threads_and_others_have_one_each(units: int, threads: int, two_threads: None) -> None:
    outcomes = list(run_here(make, range(units), units))
    assert [(one.number, one.unit, one.result) for one in outcomes] == [(n, n, threads) for n in range(units)]


def test_results_come_in_the_order_of_the_units() -> None:
    finished = [Outcome(number, f"unit {number}", number * number) for number in (2, 0, 1, 4, 3)]
    assert list(in_order(one for one in finished)) == [(f"unit {number}", number * number) for number in range(5)]


def test_after_a_failed_unit_nobody_works_on() -> None:
    ended = []

    def work() -> Generator[Outcome[str, int]]:
        try:
            yield Outcome(0, "unit 0", 0)
            yield Outcome(1, "unit 1", None, InputError("bad, expected good"))
        finally:
            ended.append(True)

    working = work()
    done = in_order(working)
    assert next(done) == ("unit 0", 0)
    with pytest.raises(InputError, match="bad") as kept:  # which keeps the generators' frames
        next(done)
    assert ended == [True], kept
