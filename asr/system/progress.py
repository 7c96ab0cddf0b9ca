"""Progress of long work: a bar on standard error where that is a terminal, and nothing elsewhere."""

import sys
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], what: str, total: int) -> Iterable[T]:
    """The same items, with a bar that says ``what`` is done while they are taken."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, what, total, console=Console(stderr=True), transient=True)
