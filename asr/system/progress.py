"""How far work is, on standard error: a progress bar on a terminal, otherwise a line a minute."""

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")

LINE_S = 60.0
"""Where standard error is no terminal, a line is printed so often."""


def progress(items: Iterable[T], what: str, total: int) -> Iterable[T]:
    """Yield the items and show the progress of ``what`` through them."""
    if not sys.stderr.isatty():
        return _print_lines(items, what, total)
    from rich.console import Console
    from rich.progress import track

    return track(items, what, total, console=Console(stderr=True), transient=True)


def _print_lines(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    started = printed = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - printed >= LINE_S:
            printed = now
            left = timedelta(seconds=round((now - started) * (total - done) / done))
            print(f"asr: {what}: {done} of {total}, {left} left", file=sys.stderr, flush=True)
        yield item
