"""Bulk work in threads of one process."""

from collections.abc import Callable, Iterator

import pytest
import torch

from asr.inference.units import run_here


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
