"""Being asked to stop: SIGTERM and Ctrl-C, taken note of until there is a good moment."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """The signal that came, 0 as long as none has."""

    signal = 0


@contextmanager
def catch_stop_signals() -> Iterator[Stop]:
    """Take note of the first signal to stop; a second one stops at once, as it would without this."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield stop
        return
    before = {number: signal.getsignal(number) for number in STOPS}

    def note(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        for known, handler in before.items():
            signal.signal(known, handler)

    for number in STOPS:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)
