"""SIGTERM and Ctrl-C, recorded so that the program stops at a good moment; worker processes that stop with it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """The number of the first stop signal received, 0 until then."""

    signal = 0


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Record the first stop signal. A second one stops the program at once."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield request
        return
    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def record(number: int, frame: FrameType | None) -> None:
        request.signal = number
        restore()

    for number in STOP_SIGNALS:
        signal.signal(number, record)
    try:
        yield request
    finally:
        restore()


def end_with_parent() -> None:
    """Let this worker process end as soon as its parent does, also if that is killed, instead of waiting for work."""
    from multiprocessing import connection, parent_process  # most commands start no process

    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
