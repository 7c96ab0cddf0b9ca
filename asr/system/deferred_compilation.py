"""Loops that numba compiles, but only where there is enough for them to do: importing it takes long at start-up."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

FREE_STEPS = 100_000
"""Steps of its innermost loop that a function does as plain Python: 0.1 s, where numba takes 0.6 to be ready."""


class DeferredCompilation(Generic[P, R]):
    """A function that runs as it is for `FREE_STEPS`, and compiled from then on, with the same results."""

    def __init__(self, function: Callable[P, R], steps: Callable[P, int]) -> None:
        """``steps`` says of arguments how often the innermost loop will run."""
        self.function, self.steps = function, steps
        self.done = 0
        self.compiled: Callable[P, R] | None = None
        update_wrapper(self, function)

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        """What the function returns."""
        self.done += self.steps(*arguments, **named)
        if self.done <= FREE_STEPS:
            return self.function(*arguments, **named)
        if self.compiled is None:
            import numba

            self.compiled = numba.njit(cache=True, nogil=True)(self.function)
        return self.compiled(*arguments, **named)


def defer_compilation(steps: Callable[P, int]) -> Callable[[Callable[P, R]], DeferredCompilation[P, R]]:
    """Make a `DeferredCompilation` of a function."""
    return lambda function: DeferredCompilation(function, steps)
