"""A progress bar on standard error if that is a terminal, and nothing otherwise."""

import sys
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], what: str, total: int) -> Iterable[T]:
    """Yield the items and show the progress of ``what`` through them."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, what, total, console=Console(stderr=True), transient=True)
