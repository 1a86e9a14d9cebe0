"""Ctrl-C and SIGTERM: the first one asks, the second one stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from tokret.cli.talk import Talk

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """``with Interrupts(talk) as stop:`` -- ``stop()`` is true once a signal came.

    The second signal raises KeyboardInterrupt where the work stands; what was saved
    stays. The former handlers come back at the end.
    """

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._former: dict[signal.Signals, Any] = {}
        self._got: int = 0

    def __call__(self) -> bool:
        """Whether a signal has come."""
        return self._got != 0

    @property
    def status(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self._got or int(signal.SIGINT))

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._former = {s: signal.signal(s, self._handle) for s in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._got:
            self._got = number
            raise KeyboardInterrupt
        self._got = number
        self._talk.urgent("Stopping after this batch; once more stops at once.")
