"""A section of a commit that Ctrl-C and SIGTERM wait for."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let signals that Python code handles wait until the block is done.

    Python runs handlers in the main thread alone: in another there is nothing to wait for. A
    signal that ends the process without asking still does; the files are made for that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    former = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if callable(handler):
            former[number] = handler
            signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for caught in came:
            signal.raise_signal(caught)
