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
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np

from tokret.errors import (
    IndexCorruptError,
    IndexMissingError,
    IndexStateError,
    ResourceError,
    UnconfirmedError,
)
from tokret.indexes.field_columns import FIELD_ROWS
from tokret.indexes.files import (
    ColumnWriter,
    parse_json,
    read_checked,
    read_json,
    sync_directory,
    to_json,
    write_atomically,
)
from tokret.indexes.lock import writing
from tokret.indexes.manifest import (
    DELETES_NAME,
    MANIFEST_NAME,
    SEGMENT_ID,
    Entry,
    Manifest,
    manifest_name,
)
from tokret.indexes.segment import DESCRIPTION, Segment
from tokret.indexes.uninterrupted import uninterrupted
from tokret.types import Mask

CURRENT = "CURRENT"
BUILD = "build.json"  # the state of an unfinished build
TEMPORARY = re.compile(r"(CURRENT|build\.json|manifest-[0-9]{8}\.json)\.[0-9]+\.tmp")
REOPENINGS = 20  # tries of a reader that meets a commit on the way


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

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        derived = [self.derived] if self.derived else []
        return sum(segment.size for segment in [*self.segments, *derived])

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
        # Segments never change, so one that somebody holds need not be opened again.
        self._held: WeakValueDictionary[tuple[str, str], Segment] = WeakValueDictionary()

    def exists(self) -> bool:
        """Whether a version has been committed here."""
        return (self.path / CURRENT).is_file()

    def current(self) -> tuple[str, str]:
        """Name and digest of the current manifest."""
        try:
            data = read_checked(self.path / CURRENT)  # once: a commit may replace it meanwhile
            value = parse_json(data)
        except (ValueError, RecursionError) as error:
            raise IndexCorruptError(f"{self.path / CURRENT}: not JSON: {error}.") from error
        except (FileNotFoundError, NotADirectoryError):
            raise IndexMissingError(self._why_missing()) from None
        name, sha256 = value.get("manifest"), value.get("sha256")
        if (
            not isinstance(name, str)
            or not MANIFEST_NAME.fullmatch(name)
            or not isinstance(sha256, str)
            or data != to_json(value)
        ):
            raise IndexCorruptError(f"{self.path / CURRENT}: names no manifest.")
        return name, sha256

    def version(self) -> int:
        """Number of the current version, 0 where there is none; only ``CURRENT`` is read."""
        return int(re.sub("[^0-9]", "", self.current()[0])) if self.exists() else 0

    def manifest(self) -> Manifest:
        """Read the current manifest. Raises FileNotFoundError where a commit took it away."""
        name, sha256 = self.current()
        return Manifest.read(self.path / name, sha256)

    def refuse_unfinished_build(self) -> None:
        """Keep a commit from clearing away the work of a build that has not finished.

        Raises IndexStateError where there is one that could go on.
        """
        try:
            waiting = read_json(self.path / BUILD).get("base") == self.version()
        except (FileNotFoundError, IndexCorruptError):
            return
        if waiting:
            raise IndexStateError(
                f"A build of {self.path} is unfinished. Finish it by the same `tokret index` "
                f"command, or give its work up by removing {self.path / BUILD}."
            )

    def _why_missing(self) -> str:
        if not self.path.exists():
            return f"There is no index at {self.path}; make one with `tokret index`."
        if self.path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".bin", ".npy"):
            return (
                f"{self.path} is a file; an index is a folder that `tokret index` makes. Pickles "
                "and torch files are never loaded: they can run code."
            )
        if (self.path / BUILD).exists():
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
        segments = [self.segment(entry) for entry in manifest.segments]
        alive = [
            self._alive(entry, segment)
            for entry, segment in zip(manifest.segments, segments, strict=True)
        ]
        for segment in segments:
            column = segment.columns.get("vectors")
            width = manifest.encoder and manifest.encoder.dim
            if column is not None and width and column.shape[1:] != (width,):
                raise IndexCorruptError(
                    f"{segment.path}: its vectors are {list(column.shape)}, those of the index "
                    f"of width {width}."
                )
        derived = manifest.derived
        return Snapshot(
            self.path,
            manifest,
            tuple(segments),
            tuple(alive),
            None if derived is None else self.segment(derived),
        )

    def segment(self, entry: Entry) -> Segment:
        """Open a segment, or give the one that is already held."""
        held = self._held.get((entry.id, entry.sha256))
        if held is None:
            held = Segment(self.segments / entry.id, vars(entry))
            self._held[entry.id, entry.sha256] = held
        return held

    def _alive(self, entry: Entry, segment: Segment) -> Mask | None:
        if entry.deletes is None or entry.deletes_column is None:
            return None
        gone = entry.deletes_column.read(self.path / entry.deletes)
        if gone.ndim != 1 or (len(gone) and not 0 <= gone.min() <= gone.max() < segment.documents):
            raise IndexCorruptError(f"{self.path / entry.deletes}: names documents there are not.")
        alive = np.ones(segment.documents, np.bool_)
        alive[gone] = False
        return alive

    def segment_ids(self) -> list[str]:
        """Names of the segments' folders that there are, committed or not."""
        if not self.segments.is_dir():
            return []
        return [p.name for p in self.segments.iterdir() if SEGMENT_ID.fullmatch(p.name)]

    def new_segment_path(self) -> Path:
        """A folder for a segment that is yet to be written."""
        return self.segments / f"seg-{secrets.token_hex(8)}"

    def write_deletes(self, entry: Entry, documents: list[int]) -> Entry:
        """Write which documents of a segment are deleted, in all."""
        name = f"deletes-{secrets.token_hex(8)}.bin"
        writer = ColumnWriter(self.path / name, "<i8", None)
        try:
            writer.append(np.array(sorted(documents), np.int64))
            return replace(entry, deletes=name, deletes_column=writer.close())
        except BaseException:
            writer.abandon()
            raise

    def commit(self, manifest: Manifest) -> None:
        """Make ``manifest`` the current version, then drop what no version needs."""
        data = manifest.to_json()
        name = manifest_name(manifest.version)
        write_atomically(self.path / name, data)
        pointer = to_json({"manifest": name, "sha256": hashlib.sha256(data).hexdigest()})
        with uninterrupted():
            self._point(pointer)
        self._remove_all_but(manifest)

    def _point(self, pointer: bytes) -> None:
        """Replace ``CURRENT``; where the disk does not confirm that, put the old one back.

        A name that was not synced may come back after a power cut, and syncing again proves
        nothing. Raises UnconfirmedError where the old one could not be made sure either.
        """
        path = self.path / CURRENT
        before = path.read_bytes() if path.exists() else None
        try:
            write_atomically(path, pointer)
        except (OSError, ResourceError) as error:
            if not path.exists() or path.read_bytes() != pointer:
                raise
            try:
                if before is None:
                    path.unlink()
                    sync_directory(self.path)
                else:
                    write_atomically(path, before)
            except (OSError, ResourceError):
                raise UnconfirmedError(
                    f"{error} It is not known whether the disk holds the version before this "
                    "change or after it; both are whole, and files of both are kept."
                ) from error
            raise

    def collect(self, manifest: Manifest | None) -> None:
        """Remove files of ours that ``manifest``, the current one if any, does not name.

        To be called by a writer. Where there is something to remove, ``CURRENT`` is written
        anew first: after a crash, or a sync that failed, the disk may hold another one than is
        seen, which must not lose its files.
        """
        if self._obsolete(manifest) and self.exists():
            write_atomically(self.path / CURRENT, (self.path / CURRENT).read_bytes())
        self._remove_all_but(manifest)

    def _obsolete(self, manifest: Manifest | None) -> set[str]:
        """Names of ours that a manifest does not name."""
        if manifest is None:
            return self.names()
        entries = [*manifest.segments, *([manifest.derived] if manifest.derived else [])]
        kept = {manifest_name(manifest.version), *(entry.id for entry in entries)}
        return self.names() - kept - {entry.deletes for entry in entries if entry.deletes}

    def _remove_all_but(self, manifest: Manifest | None) -> None:
        obsolete = self._obsolete(manifest)
        self.remove(obsolete)
        for segment in set(self.segment_ids()) - obsolete:
            # What one was made from, and what a killed writer left in it.
            folder = self.segments / segment
            _unlink(folder / f"{FIELD_ROWS}.bin", *folder.glob(f"{DESCRIPTION}.*.tmp"))
        if manifest is not None and not self._builds_on(manifest.version):
            _unlink(self.path / BUILD)

    def _builds_on(self, version: int) -> bool:
        """Whether ``build.json`` is not an unfinished build's of a version before ``version``."""
        try:
            base = read_json(self.path / BUILD).get("base")
        except (OSError, IndexCorruptError):
            return True
        return type(base) is not int or base >= version

    def names(self) -> set[str]:
        """Names of files and segments of ours that there are, committed or not."""
        forms = (MANIFEST_NAME, DELETES_NAME, TEMPORARY)
        names = [path.name for path in self.path.iterdir()]
        ours = {name for name in names if any(form.fullmatch(name) for form in forms)}
        return ours.union(self.segment_ids())

    def remove(self, names: Iterable[str]) -> None:
        """Remove what ``names`` gave, as far as that is possible; a later commit does the rest."""
        for name in names:
            if SEGMENT_ID.fullmatch(name):
                shutil.rmtree(self.segments / name, ignore_errors=True)
            else:
                _unlink(self.path / name)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the index as its only writer.

        Raises LockedError that says who holds it. The lock goes with its process.
        """
        return writing(self.path)


def _unlink(*paths: Path) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
