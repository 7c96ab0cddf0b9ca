"""Progress of bulk work: hours of audio done, speed and time left."""

import sys
import time
from contextlib import ExitStack
from datetime import timedelta
from typing import Self

from asr.system.progress import LINE_S


class HoursProgress:
    """Shows on standard error how much is done: a line that changes on a terminal, otherwise a line a minute."""

    def __init__(self, what: str, total: int, done: int) -> None:
        """``total`` is the number of utterances or recordings; an earlier command has done ``done`` of them."""
        self.what, self.total, self.earlier, self.done, self.seconds = what, total, done, done, 0.0
        self.started = self.printed = time.monotonic()
        self.terminal = sys.stderr.isatty()
        self.live = ExitStack()

    def __enter__(self) -> Self:
        if self.terminal:
            from rich.console import Console
            from rich.live import Live

            self.live.enter_context(Live(console=Console(stderr=True), get_renderable=self.describe, transient=True))
        return self

    def __exit__(self, *_: object) -> None:
        self.live.close()

    def add(self, count: int, seconds: float) -> None:
        """Add utterances or recordings that are done, and the seconds of their audio."""
        self.done, self.seconds = self.done + count, self.seconds + seconds
        if not self.terminal and time.monotonic() - self.printed >= LINE_S:
            self.printed = time.monotonic()
            print(f"asr: {self.describe()}", file=sys.stderr)

    def describe(self) -> str:
        """Such as: transcribing: 120 of 900, 1.23 hours at 85 times real time, 0:02:31 left."""
        elapsed_s, new = time.monotonic() - self.started, self.done - self.earlier
        speed = f"{self.seconds / 3600:.2f} hours at {self.seconds / max(elapsed_s, 1e-9):.0f} times real time"
        left = f", {timedelta(seconds=round(elapsed_s * (self.total - self.done) / new))} left" if new else ""
        return f"{self.what}: {self.done} of {self.total}, {speed}{left}"
