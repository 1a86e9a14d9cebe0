"""Locks that a forked child finds free.

A child of fork has the memory of its parent and one thread: a lock that another thread held
at that moment would stay shut in it for ever.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType
from weakref import WeakSet

_every: WeakSet[Lock] = WeakSet()


class Lock:
    """``with lock:`` as with threading.Lock; a forked child begins with a new one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _every.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Be free, whoever held it."""
        self._lock = threading.Lock()


def _renew_all() -> None:
    for lock in list(_every):
        lock.renew()


if hasattr(os, "register_at_fork"):  # where there is no fork, there is no need
    os.register_at_fork(after_in_child=_renew_all)
