"""The index folder: segments that never change, and the manifest that names them.

``CURRENT`` names a manifest and its digest; a manifest names segments and theirs; a
segment's description holds a digest of every MiB of its columns. A commit writes new
files, makes them durable, and then replaces ``CURRENT``, so a crash leaves the version
before or the version after. Readers keep the version they opened. ``indexes/FORMAT.md``
says every byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tokret import __version__
from tokret.encoders.base import Identity
from tokret.errors import (
    IndexCorruptError,
    IndexFormatError,
    IndexMissingError,
    LockedError,
    UsageError,
)
from tokret.indexes.files import Column, ColumnWriter, read_json, to_json, write_atomically
from tokret.indexes.segment import DESCRIPTION, Segment
from tokret.types import Mask

FORMAT = 1
FEATURES: frozenset[str] = frozenset()  # what a manifest may ask of its reader, beyond FORMAT
CURRENT = "CURRENT"
SEGMENT_ID = re.compile(r"seg-[0-9a-f]{16}")
MANIFEST_NAME = re.compile(r"manifest-[0-9]{8}\.json")
DELETES_NAME = re.compile(r"deletes-[0-9a-f]{16}\.bin")
REOPENINGS = 20  # tries of a reader that meets a commit on the way


class Damage(NamedTuple):
    """One thing that is wrong with a file of an index."""

    file: str
    message: str


@dataclass(frozen=True)
class Settings:
    """How documents became passages and vectors; the same for the life of an index."""

    long: str = "split"
    max_tokens: int | None = None
    overlap: int = 0
    normalize: bool = True

    def __post_init__(self) -> None:
        if self.long not in ("split", "truncate"):
            raise UsageError(f"long must be 'split' or 'truncate', got {self.long!r}.")
        if self.max_tokens is not None and self.max_tokens < 4:
            raise UsageError(f"max_tokens must be at least 4, got {self.max_tokens}.")
        if self.overlap < 0:
            raise UsageError(f"overlap must not be negative, got {self.overlap}.")


@dataclass(frozen=True)
class Entry:
    """A segment as a manifest names it, with the documents deleted from it."""

    id: str
    kind: str
    bytes: int
    sha256: str
    deletes: str | None = None  # file that lists deleted documents, int64
    deletes_column: Column | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        value: dict[str, Any] = {
            "id": self.id,
            "kind": self.kind,
            "bytes": self.bytes,
            "sha256": self.sha256,
        }
        if self.deletes is not None and self.deletes_column is not None:
            value["deletes"] = {"file": self.deletes, **self.deletes_column.to_dict()}
        return value

    @classmethod
    def from_dict(cls, value: object, where: str) -> Entry:
        """Read an entry, refusing names that could lead out of the folder."""
        if not isinstance(value, dict) or not {"id", "kind", "bytes", "sha256"} <= set(value):
            raise IndexCorruptError(f"{where}: a segment lacks id, kind, bytes or sha256.")
        deletes = value.get("deletes")
        column = None
        if deletes is not None:
            name = deletes.pop("file", None) if isinstance(deletes, dict) else None
            if not isinstance(name, str) or not DELETES_NAME.fullmatch(name):
                raise IndexCorruptError(f"{where}: {name!r} is no list of deletions.")
            column = Column.from_dict(deletes, f"{where}: {name}")
            deletes = name
        entry = cls(value["id"], value["kind"], value["bytes"], value["sha256"], deletes, column)
        if (
            not isinstance(entry.id, str)
            or not SEGMENT_ID.fullmatch(entry.id)
            or not isinstance(entry.kind, str)
            or type(entry.bytes) is not int
            or not isinstance(entry.sha256, str)
        ):
            raise IndexCorruptError(f"{where}: {entry.id!r} is no segment of ours.")
        return entry


@dataclass(frozen=True)
class Manifest:
    """One committed version of an index."""

    version: int
    backend: str
    encoder: Identity | None
    settings: Settings
    segments: tuple[Entry, ...] = ()
    derived: Entry | None = None  # what the backend made of all segments together

    def to_json(self) -> bytes:
        """The file's bytes."""
        encoder = self.encoder and vars(self.encoder)
        return to_json(
            {
                "format": FORMAT,
                "features": [],
                "written_by": f"tokret {__version__}",
                "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "version": self.version,
                "backend": self.backend,
                "encoder": encoder,
                "settings": vars(self.settings),
                "segments": [entry.to_dict() for entry in self.segments],
                "derived": self.derived and self.derived.to_dict(),
            }
        )

    @classmethod
    def read(cls, path: Path, sha256: str) -> Manifest:
        """Read and check a manifest. Raises FileNotFoundError if it is gone."""
        value = read_json(path, sha256=sha256)
        if type(value.get("format")) is not int:
            raise IndexCorruptError(f"{path}: has no format number.")
        if value["format"] > FORMAT:
            raise IndexFormatError(
                f"{path} has format {value['format']}; tokret {__version__} reads up to "
                f"{FORMAT}. It was written by {value.get('written_by')}: upgrade tokret."
            )
        unknown = sorted(set(value.get("features") or []) - FEATURES)
        if unknown:
            raise IndexFormatError(
                f"{path} uses {', '.join(map(repr, unknown))}, which tokret {__version__} does "
                f"not know. It was written by {value.get('written_by')}: upgrade tokret."
            )
        try:
            encoder = value["encoder"]
            manifest = cls(
                version=value["version"],
                backend=value["backend"],
                encoder=None if encoder is None else Identity(**encoder),
                settings=Settings(**value["settings"]),
                segments=tuple(Entry.from_dict(e, str(path)) for e in value["segments"]),
                derived=value["derived"] and Entry.from_dict(value["derived"], str(path)),
            )
        except (KeyError, TypeError, UsageError) as error:
            raise IndexCorruptError(f"{path}: not a manifest of ours ({error}).") from error
        if type(manifest.version) is not int or not isinstance(manifest.backend, str):
            raise IndexCorruptError(f"{path}: not a manifest of ours.")
        return manifest


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One version of an index, all its files found and of the right size."""

    path: Path
    manifest: Manifest
    segments: tuple[Segment, ...]
    alive: tuple[Mask | None, ...]  # per segment, which documents count; None: all
    derived: Segment | None

    @property
    def documents(self) -> int:
        """Documents that are not deleted."""
        return sum(
            segment.documents if alive is None else int(alive.sum())
            for segment, alive in zip(self.segments, self.alive, strict=True)
        )

    def find(self, doc_id: str) -> tuple[int, int] | None:
        """The segment and the number of the live document with this id."""
        for s, (segment, alive) in enumerate(zip(self.segments, self.alive, strict=True)):
            for d in segment.find(doc_id):
                if alive is None or alive[d]:
                    return s, d
        return None


class Store:
    """The folder of one index."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.segments = self.path / "segments"

    def exists(self) -> bool:
        """Whether a version has been committed here."""
        return (self.path / CURRENT).is_file()

    def current(self) -> tuple[str, str]:
        """Name and digest of the current manifest."""
        try:
            value = read_json(self.path / CURRENT)
            canonical = (self.path / CURRENT).read_bytes() == to_json(value)
        except (FileNotFoundError, NotADirectoryError):
            raise IndexMissingError(self._why_missing()) from None
        name, sha256 = value.get("manifest"), value.get("sha256")
        if (
            not isinstance(name, str)
            or not MANIFEST_NAME.fullmatch(name)
            or not isinstance(sha256, str)
            or not canonical
        ):
            raise IndexCorruptError(f"{self.path / CURRENT}: names no manifest.")
        return name, sha256

    def _why_missing(self) -> str:
        if not self.path.exists():
            return f"There is no index at {self.path}; make one with `tokret index`."
        if self.path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".bin", ".npy"):
            return (
                f"{self.path} is a file; an index is a folder that `tokret index` makes. Pickles "
                "and torch files are never loaded: they can run code."
            )
        if (self.path / "build.json").exists():
            return (
                f"The build of {self.path} is not finished; run the same `tokret index` command "
                "again to go on."
            )
        return f"{self.path} is not an index (it has no {CURRENT}); make one with `tokret index`."

    def open(self) -> Snapshot:
        """Open the current version.

        Raises IndexMissingError, IndexFormatError, or IndexCorruptError for a file that
        is missing, of another size, or not what was committed.
        """
        for _ in range(REOPENINGS):
            name, sha256 = self.current()
            try:
                return self._open(name, sha256)
            except (FileNotFoundError, IndexCorruptError) as error:
                if self.current() != (name, sha256):
                    continue  # a commit has taken these files away; open what it left
                if isinstance(error, FileNotFoundError):
                    raise IndexCorruptError(f"{error.filename}: missing.") from error
                raise
        raise IndexCorruptError(f"{self.path}: changed {REOPENINGS} times while it was opened.")

    def _open(self, name: str, sha256: str) -> Snapshot:
        return self.snapshot(Manifest.read(self.path / name, sha256))

    def snapshot(self, manifest: Manifest) -> Snapshot:
        """Open what a manifest names, committed or not."""
        segments = [Segment(self.segments / e.id, vars(e)) for e in manifest.segments]
        alive = [
            self._alive(entry, segment)
            for entry, segment in zip(manifest.segments, segments, strict=True)
        ]
        derived = manifest.derived
        return Snapshot(
            self.path,
            manifest,
            tuple(segments),
            tuple(alive),
            None if derived is None else Segment(self.segments / derived.id, vars(derived)),
        )

    def _alive(self, entry: Entry, segment: Segment) -> Mask | None:
        if entry.deletes is None or entry.deletes_column is None:
            return None
        gone = entry.deletes_column.read(self.path / entry.deletes)
        if gone.ndim != 1 or (len(gone) and not 0 <= gone.min() <= gone.max() < segment.documents):
            raise IndexCorruptError(f"{self.path / entry.deletes}: names documents there are not.")
        alive = np.ones(segment.documents, np.bool_)
        alive[gone] = False
        return alive

    def new_segment_path(self) -> Path:
        """A folder for a segment that is yet to be written."""
        return self.segments / f"seg-{secrets.token_hex(8)}"

    def write_deletes(self, entry: Entry, documents: list[int]) -> Entry:
        """Write which documents of a segment are deleted, in all."""
        name = f"deletes-{secrets.token_hex(8)}.bin"
        writer = ColumnWriter(self.path / name, "<i8", None)
        writer.append(np.array(sorted(documents), np.int64))
        return replace(entry, deletes=name, deletes_column=writer.close())

    def commit(self, manifest: Manifest) -> None:
        """Make ``manifest`` the current version, then drop what no version needs."""
        data = manifest.to_json()
        name = f"manifest-{manifest.version:08d}.json"
        write_atomically(self.path / name, data)
        pointer = {"manifest": name, "sha256": hashlib.sha256(data).hexdigest()}
        write_atomically(self.path / CURRENT, to_json(pointer))
        self.collect(manifest)

    def collect(self, manifest: Manifest) -> None:
        """Remove files that ``manifest``, the current one, does not name."""
        entries = [*manifest.segments, *([manifest.derived] if manifest.derived else [])]
        segments = {entry.id for entry in entries}
        keep = {f"manifest-{manifest.version:08d}.json", *(e.deletes for e in entries)}
        for path in self.path.iterdir():
            ours = MANIFEST_NAME.fullmatch(path.name) or DELETES_NAME.fullmatch(path.name)
            if (ours and path.name not in keep) or path.name.endswith(".tmp"):
                path.unlink(missing_ok=True)
        if self.segments.is_dir():
            for path in self.segments.iterdir():
                if SEGMENT_ID.fullmatch(path.name) and path.name not in segments:
                    shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the index as its only writer.

        Raises LockedError that says who holds it. The lock goes with its process.
        """
        from filelock import FileLock, Timeout

        self.path.mkdir(parents=True, exist_ok=True)
        holder = self.path / "writer.json"
        lock = FileLock(self.path / "writer.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            who = ""
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                value = json.loads(holder.read_text())
                who = f" (process {int(value['pid'])} on {value['host']!r})"
            raise LockedError(
                f"Another writer{who} holds {self.path}; wait for it to finish, or stop it."
            ) from None
        try:
            holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def verify(
    path: str | os.PathLike[str],
    mode: str = "full",
    progress: Callable[[int, int], None] | None = None,
) -> list[Damage]:
    """Check an index; an empty list means that it is whole.

    ``quick`` checks what opening it checks: the manifest, every description, every
    size. ``full`` reads every byte and names damaged ranges. ``progress`` is called with
    bytes read and bytes in all. Raises IndexMissingError or IndexFormatError.
    """
    if mode not in ("quick", "full"):
        raise UsageError(f"mode must be 'quick' or 'full', got {mode!r}.")
    store = Store(path)
    try:
        name, sha256 = store.current()
        manifest = Manifest.read(store.path / name, sha256)
    except FileNotFoundError as error:
        return [Damage(Path(error.filename).name, "missing")]
    except IndexCorruptError as error:
        return [_damage(store.path, error)]
    damages: list[Damage] = []
    files: list[tuple[Path, Column]] = []
    for entry in [*manifest.segments, *([manifest.derived] if manifest.derived else [])]:
        if entry.deletes is not None and entry.deletes_column is not None:
            files.append((store.path / entry.deletes, entry.deletes_column))
        folder = store.segments / entry.id
        try:
            described = read_json(folder / DESCRIPTION, entry.bytes, entry.sha256)
            columns = described["columns"].items()
            files += [
                (folder / f"{column}.bin", Column.from_dict(value, column))
                for column, value in columns
            ]
        except FileNotFoundError:
            damages.append(Damage(str((folder / DESCRIPTION).relative_to(store.path)), "missing"))
        except IndexCorruptError as error:
            damages.append(_damage(store.path, error))
    total = sum(column.size for _, column in files)
    done = 0
    for file, column in files:
        try:
            column.check_size(file)
            ranges = column.damaged_ranges(file) if mode == "full" else []
        except IndexCorruptError as error:
            damages.append(_damage(store.path, error))
        else:
            name = str(file.relative_to(store.path))
            damages += [Damage(name, f"damaged between byte {a} and {b}") for a, b in ranges]
        done += column.size
        if progress is not None:
            progress(done, total)
    return damages or _inconsistencies(store)


def _inconsistencies(store: Store) -> list[Damage]:
    """What is wrong between files that are each what was written."""
    try:
        snapshot = store.open()
        for segment in snapshot.segments:
            segment.passage_offsets  # noqa: B018  (reading checks it)
            segment.token_offsets if segment.tokens else None  # noqa: B018
    except IndexCorruptError as error:
        return [_damage(store.path, error)]
    return []


def _damage(root: Path, error: IndexCorruptError) -> Damage:
    file, _, message = str(error).partition(": ")
    with contextlib.suppress(ValueError):
        file = str(Path(file).relative_to(root))
    return Damage(file, message)
