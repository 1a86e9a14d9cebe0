"""Repair: what is provably whole of a damaged index, committed as its next version.

Does    Finds the last manifest that can be proven, keeps segments that are whole, writes the
        whole documents of the others anew, and lets the backend make again what belongs to all
        of them. The files of the damaged version stay in ``damaged/``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tokret.errors import IndexCorruptError, UsageError
from tokret.indexes.base import Backend, backends
from tokret.indexes.codebook import Codebook
from tokret.indexes.coded import CODED_COLUMNS, KIND
from tokret.indexes.consistency import check_segment
from tokret.indexes.field_match import FieldColumn
from tokret.indexes.files import block_digest, read_checked
from tokret.indexes.manifest import MANIFEST_NAME, Entry, Manifest, manifest_name
from tokret.indexes.merge import Source, copy_rows
from tokret.indexes.salvage import Salvage, mended
from tokret.indexes.segment import Segment, SegmentWriter, id_hash
from tokret.indexes.store import CURRENT, Store
from tokret.indexes.verify import Damage, verify
from tokret.types import Mask

KEPT = "damaged"  # folder of what a repair replaced
ALIKE = 48  # of 64 hexadecimal digits: no digest has so many of another's by chance
NAMED = ("field_names", "field_name_ends", "field_kinds", "field_ends", "field_term_ends")
Missing = dict[str, list[int] | None]
CHUNK = 1 << 12  # documents whose metadata is copied at a time


@dataclass
class Repaired:
    """What a repair found, kept and lost."""

    damage: list[Damage]
    version: int = 0  # that was read
    written: int | None = None  # version that was committed; None where nothing was to be done
    kept: int = 0  # documents
    lost: list[str] = field(default_factory=list)  # ids of documents
    unnamed: int = 0  # lost documents whose ids are lost too
    unknown: list[str] = field(default_factory=list)  # segments, of which not even a number is
    fields: dict[str, list[str] | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    original: str | None = None  # where the damaged files are

    @property
    def complete(self) -> bool:
        """Whether nothing was lost."""
        return not (self.lost or self.unnamed or self.unknown or self.fields)


def repair(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    dry_run: bool = False,
    undelete: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Repaired:
    """Salvage what is provably whole of an index, and say exactly what is lost.

    A document is kept where every block of its id, text, passages and tokens has the digest
    that was recorded. Metadata is kept by field; ``fields`` of the answer names those lost,
    with the ids of the documents that had them (None where these cannot be known). The new
    version takes the place of the old one, whose files are kept in ``damaged/``, or is written
    to the folder ``out``, and then nothing of the original is touched. Where a list of
    deletions is damaged, nobody knows which documents still count: they are lost, or with
    ``undelete`` all of them come back. ``dry_run`` writes nothing. Raises IndexCorruptError
    where no manifest can be proven, IndexMissingError, IndexFormatError, LockedError.
    """
    store = Store(path)
    if out is not None and Path(out).exists() and any(Path(out).iterdir()):
        raise UsageError(f"{out} is not empty; name a new folder for the repaired index.")
    done = Repaired(verify(path, progress=progress))
    if not done.damage:
        return done
    with contextlib.nullcontext() if dry_run or out is not None else store.lock():
        manifest = _manifest(store, done)
        done.version = manifest.version
        target = store if out is None else Store(out)
        plan = _Plan(store, target, manifest, done, undelete)
        if dry_run:
            plan.run(write=False)
            return done
        if out is not None:
            with target.lock():
                plan.run(write=True)
        else:
            done.original = str(_keep_originals(store, manifest))
            plan.run(write=True)
    return done


class _Plan:
    """The segments of one manifest on their way into another."""

    def __init__(
        self, store: Store, target: Store, manifest: Manifest, done: Repaired, undelete: bool
    ) -> None:
        self.store, self.target, self.manifest = store, target, manifest
        self.done, self.undelete = done, undelete
        self.backend: Backend = backends.build(manifest.backend)

    def run(self, write: bool) -> None:
        """Keep, write or leave out every segment; with ``write``, commit."""
        derived = self._whole(self.manifest.derived)
        entries = [self._entry(entry, derived, write) for entry in self.manifest.segments]
        if not write:
            return
        here = self.target is self.store
        if derived is not None and not here:
            _copy(self.store, self.target, derived)
        kept = tuple(entry for entry in entries if entry is not None)
        version = max(_versions(self.store), default=0) + 1 if here else 1
        draft = replace(self.manifest, version=version, segments=kept, derived=derived)
        if derived is None or self.backend.name != "ivf":  # made of all segments: made again
            draft = replace(draft, derived=None)
        self.target.commit(self.backend.settle(self.target, draft))
        self.done.written = version

    def _whole(self, entry: Entry | None) -> Entry | None:
        """The derived segment, where nothing of it is damaged."""
        if entry is None:
            return None
        try:
            found = Salvage(self.store.segments / entry.id, vars(entry))
            if found.mended or found.grown or any(found.damaged.values()):
                return None
            if entry.kind == "codebook":
                Codebook.read(Segment(found.path, vars(entry)))
        except IndexCorruptError:
            return None
        return entry

    def _entry(self, entry: Entry, derived: Entry | None, write: bool) -> Entry | None:
        folder = self.store.segments / entry.id
        try:
            found = Salvage(folder, vars(entry))
            coded = entry.kind == KIND
            lost = found.lost.copy()
            if coded and derived is None and "vectors" not in found.columns:
                lost[:] = True
                self.done.notes.append(f"{folder.name}: its codes cannot be read any more.")
            if found.mended:
                note = (
                    f"{folder.name}: a bit of its description was put right, as the digest proves."
                )
                self.done.notes.append(note)
            elif not found.grown and not any(found.damaged.values()):
                try:
                    check_segment(Segment(folder, vars(entry)))
                except IndexCorruptError as error:
                    lost[:] = True
                    self.done.notes.append(str(error))
        except IndexCorruptError as error:
            self.done.unknown.append(entry.id)
            self.done.notes.append(str(error))
            return None
        alive, deletes = self._alive(entry, found.documents)
        if deletes is False:
            lost |= not self.undelete
        columns, missing = _fields(found)
        whole = not (found.mended or found.grown or any(found.damaged.values())) and not (
            coded and derived is None
        )
        keep = alive & ~lost
        for d in np.flatnonzero(alive & lost).tolist():
            name = found.name(d)
            if name is None:
                self.done.unnamed += 1
            else:
                self.done.lost.append(name)
        self._fields_lost(found, missing, keep)
        self.done.kept += int(keep.sum())
        if not write or not keep.any():
            return None
        if whole and not lost.any():
            if deletes is False:
                entry = replace(entry, deletes=None, deletes_column=None)
            if self.target is not self.store:
                _copy(self.store, self.target, entry)
            if isinstance(deletes, list):
                entry = self.target.write_deletes(entry, deletes)
            return entry
        kind = "tokens" if coded and derived is None else entry.kind
        return self._write(found, kind, keep, columns)

    def _alive(self, entry: Entry, documents: int) -> tuple[Mask, list[int] | bool | None]:
        """Which documents count; a list of deletions that was put right, False for none that is."""
        alive = np.ones(documents, np.bool_)
        if entry.deletes is None or entry.deletes_column is None:
            return alive, None
        column, file = entry.deletes_column, self.store.path / entry.deletes
        try:
            given = read_checked(file)
            data = given
            if len(column.blocks) == 1:
                data = mended(given, lambda d: block_digest(d) == column.blocks[0])
            gone = column.checked(np.frombuffer(data, "<i8"), file)
            alive[gone] = False
            return alive, None if data == given else gone.tolist()
        except (IndexCorruptError, OSError, IndexError, ValueError):
            what = "came back" if self.undelete else "are lost with it"
            self.done.notes.append(
                f"{entry.deletes}: says which documents were deleted, and is damaged; the "
                f"documents of its segment {what}."
            )
            return alive, False

    def _fields_lost(self, found: Salvage, missing: Missing, keep: Mask) -> None:
        for name, docs in missing.items():
            known = None if docs is None else [found.doc_id(d) for d in docs if keep[d]]
            before = self.done.fields.get(name, [])
            self.done.fields[name] = None if known is None or before is None else before + known

    def _write(self, found: Salvage, kind: str, keep: Mask, columns: list[FieldColumn]) -> Entry:
        layout = dict(Source(found, kind, keep).layout)
        if kind != KIND:
            layout = {name: form for name, form in layout.items() if name not in CODED_COLUMNS}
        writer = SegmentWriter(self.target.new_segment_path(), kind, layout)
        try:
            copy_rows(found, keep, writer, layout)
            first = 0
            for at in range(0, found.documents, CHUNK):
                live = keep[at : at + CHUNK]
                rows: list[dict[str, object]] = [{} for _ in live]
                for column in columns:
                    for d, value in column.rows(at, at + len(live)):
                        rows[d - at][column.name] = value
                kept = [row for row, here in zip(rows, live.tolist(), strict=True) if here]
                writer.add_fields(first, kept)  # type: ignore[arg-type]
                first += len(kept)
            hashes = [id_hash(found.doc_id(d)) for d in np.flatnonzero(keep).tolist()]
            self.backend.finish(writer)
            sealed = writer.seal(np.array(hashes, np.uint64))
            return Entry.from_dict(sealed, writer.path.name)
        except BaseException:
            writer.discard()
            raise


def _fields(found: Salvage) -> tuple[list[FieldColumn], Missing]:
    """Columns of metadata that are whole; names of others, and who had them, where it is known."""
    if any(found.damaged.get(name) for name in NAMED):
        return [], {f"all fields of {found.path.name}": None}
    whole: list[FieldColumn] = []
    missing: Missing = {}
    for i, (name, _, _) in enumerate(found.fields.kinds):
        try:
            whole.append(found.fields.column(i))
        except IndexCorruptError:
            try:
                docs = found.fields.documents(i)
            except IndexCorruptError:
                docs = None
            before = missing.get(name, [])
            missing[name] = None if docs is None or before is None else before + docs
    return whole, missing


def _manifest(store: Store, done: Repaired) -> Manifest:
    """The current manifest, or the newest that something proves."""
    try:
        return store.manifest()
    except (FileNotFoundError, IndexCorruptError):
        pass
    pointer = b""
    with contextlib.suppress(OSError, IndexCorruptError):
        pointer = read_checked(store.path / CURRENT)
    found: list[tuple[bool, int, Manifest]] = []
    for version in _versions(store):
        path = store.path / manifest_name(version)
        with contextlib.suppress(OSError, IndexCorruptError):
            given = read_checked(path)
            data = mended(given, lambda d: _alike(pointer, hashlib.sha256(d).hexdigest()))
            manifest = Manifest.parse(path, data)
            found.append((_alike(pointer, hashlib.sha256(data).hexdigest()), version, manifest))
            if data != given:
                done.notes.append(f"{path.name}: a bit was put right, as the digest proves.")
    if not found:
        raise IndexCorruptError(
            f"{store.path}: no manifest is whole, so nothing says which files belong to the "
            "index. Restore it from a copy, or build it again."
        )
    proven, version, manifest = max(found, key=lambda one: one[:2])
    if not proven:
        done.notes.append(
            f"{manifest_name(version)} is the newest that can be read; no pointer proves it."
        )
    return manifest


def _versions(store: Store) -> list[int]:
    """Numbers of the versions whose manifests lie in the folder."""
    names = [p.name for p in store.path.iterdir()]
    return sorted(int(name[9:17]) for name in names if MANIFEST_NAME.fullmatch(name))


def _alike(pointer: bytes, sha256: str) -> bool:
    """Whether a pointer, damaged perhaps, names this digest."""
    wanted = np.frombuffer(sha256.encode(), np.uint8)
    given = np.frombuffer(pointer[:4096], np.uint8)
    if len(given) < len(wanted):
        return False
    windows = np.lib.stride_tricks.sliding_window_view(given, len(wanted))
    return bool((windows == wanted).sum(axis=1).max() >= ALIKE)


def _keep_originals(store: Store, manifest: Manifest) -> Path:
    """Give every file of the damaged version a second name, in a folder that no commit clears."""
    folder = store.path / KEPT / f"version-{manifest.version:08d}"
    for n in range(1, 1000):
        if not folder.exists():
            break
        folder = folder.with_name(f"version-{manifest.version:08d}-{n}")
    folder.mkdir(parents=True)
    entries = [*manifest.segments, *([manifest.derived] if manifest.derived else [])]
    names = [CURRENT, *(manifest_name(version) for version in _versions(store))]
    for name in [*names, *(entry.deletes for entry in entries if entry.deletes)]:
        if (store.path / name).is_file():
            shutil.copy2(store.path / name, folder / name)
    for entry in entries:
        if (store.segments / entry.id).is_dir():
            _link(store.segments / entry.id, folder / "segments" / entry.id)
    return folder


def _copy(store: Store, target: Store, entry: Entry) -> None:
    shutil.copytree(store.segments / entry.id, target.segments / entry.id)
    if entry.deletes is not None:
        shutil.copy2(store.path / entry.deletes, target.path / entry.deletes)


def _link(source: Path, folder: Path) -> None:
    """A copy of a folder of files, by further names where the file system has them."""
    folder.mkdir(parents=True)
    for file in source.iterdir():
        if not file.is_file():
            continue
        try:
            os.link(file, folder / file.name)
        except OSError:
            shutil.copy2(file, folder / file.name)
