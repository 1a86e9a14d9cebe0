"""Everything that can go wrong on purpose, with the exit status it means.

A message says what was got, what was wanted and what to do. The command line
prints the message alone and leaves with ``exit_code``; Python users catch the class.
"""

from __future__ import annotations


class TokretError(Exception):
    """The root of every error that tokret raises deliberately."""

    exit_code = 2


class UsageError(TokretError, ValueError):
    """A request that cannot be served as asked: a wrong name, a wrong parameter."""


class MissingExtraError(TokretError, ImportError):
    """An optional part is not installed; the message names the extra."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        self._given = (what, extra)
        super().__init__(f"{what} needs an optional part: pip install 'tokret[{extra}]'")

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), self._given  # a worker's error is made again where it is caught


class InputError(TokretError, ValueError):
    """Input data that cannot be used; the message names the file and the line."""

    exit_code = 3


class ModelError(TokretError):
    """A model that is absent, incomplete or of an unknown form."""

    exit_code = 3


class IndexStateError(TokretError):
    """An index that cannot be used as it stands on disk."""

    exit_code = 4


class IndexMissingError(IndexStateError):
    """There is no index at the path."""


class IndexCorruptError(IndexStateError):
    """A file of the index is not what its manifest says."""


class IndexFormatError(IndexStateError):
    """The index was written by a newer tokret, or by one too old."""


class ModelMismatchError(IndexStateError):
    """The index holds vectors of another model."""


class ResourceError(TokretError):
    """Out of memory, disk or device."""

    exit_code = 5


class UnconfirmedError(ResourceError):
    """The disk failed in the middle of a commit: it may hold the version before or after it."""


class LockedError(TokretError):
    """Another writer holds the index."""

    exit_code = 6
