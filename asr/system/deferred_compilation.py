"""Functions that numba compiles once they have enough to do. Importing numba for a short recording would cost too much."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

INTERPRETED_STEPS = 100_000
"""Steps of the innermost loop that run as plain Python. They take 0.1 s; loading numba takes 0.6 s."""


class DeferredCompilation(Generic[P, R]):
    """A function that is interpreted for `INTERPRETED_STEPS` and compiled from then on, with the same results."""

    def __init__(self, function: Callable[P, R], steps: Callable[P, int]) -> None:
        """``steps`` maps the arguments of a call to the number of steps of its innermost loop."""
        self.function, self.steps = function, steps
        self.done = 0
        self.compiled: Callable[P, R] | None = None
        update_wrapper(self, function)

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        """Call the function."""
        self.done += self.steps(*arguments, **named)
        if self.done <= INTERPRETED_STEPS:
            return self.function(*arguments, **named)
        if self.compiled is None:
            import numba

            self.compiled = numba.njit(cache=True, nogil=True)(self.function)
        return self.compiled(*arguments, **named)


def defer_compilation(steps: Callable[P, int]) -> Callable[[Callable[P, R]], DeferredCompilation[P, R]]:
    """Decorate a function to make it a `DeferredCompilation`."""
    return lambda function: DeferredCompilation(function, steps)
