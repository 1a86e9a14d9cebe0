"""A folder of finished steps: each under the digest of everything that made it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokret
from tokret.collections import irds
from tokret.collections.corpus import corpus_files
from tokret.errors import LockedError
from tokret.indexes.files import write_atomically

READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Slot:
    """The place of one step's outcome; ``record`` is None until the step is finished."""

    path: Path
    makes: dict[str, Any]
    record: dict[str, Any] | None

    def finish(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Write that the step is finished; the outcome must lie at ``path`` by now."""
        whole = {**record, "made_of": self.makes}
        write_atomically(_beside(self.path), (json.dumps(whole, indent=1) + "\n").encode())
        return whole


@dataclass(frozen=True)
class WorkFolder:
    """Outcomes of steps and their records; ``restart`` forgets those that are there."""

    path: Path
    restart: bool = False

    def slot(self, kind: str, makes: Mapping[str, Any], suffix: str = "") -> Slot:
        """Find the place of what ``makes``, this version of tokret included, makes."""
        whole = {"tokret": tokret.__version__, **makes}
        path = self.path / f"{kind}-{digest(whole)}{suffix}"
        if self.restart or not path.exists():
            return Slot(path, whole, None)
        try:
            record = json.loads(_beside(path).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            record = None  # unfinished, or cut off: the step is done again
        return Slot(path, whole, record if isinstance(record, dict) else None)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; LockedError while another process does."""
        from filelock import FileLock, Timeout

        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / "experiment.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise LockedError(
                f"Another process runs an experiment in {self.path}; wait for it, or name "
                "another work folder."
            ) from error
        try:
            yield
        finally:
            lock.release()


def digest(value: object) -> str:
    """Give equal JSON values one short name."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def corpus_identity(source: str, limit: int | None = None) -> dict[str, Any]:
    """Tell a corpus from others: the digest of its files, or its ir_datasets id."""
    if irds.is_id(source):
        return {"ir_datasets": source, "limit_documents": limit}
    content = hashlib.sha256()
    for path in corpus_files(Path(source))[0]:
        with open(path, "rb") as file:
            while block := file.read(READ_BYTES):
                content.update(block)
    return {"sha256": content.hexdigest(), "limit_documents": limit}


def _beside(path: Path) -> Path:
    """Where the record of an outcome lies."""
    return path.with_suffix(".json")
