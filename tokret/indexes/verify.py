"""Verification: every file of an index against what its manifest says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tokret.errors import IndexCorruptError, UsageError
from tokret.indexes.consistency import check_searcher, check_segment
from tokret.indexes.files import Column, read_checked
from tokret.indexes.segment import read_description
from tokret.indexes.store import CURRENT, REOPENINGS, Store


class Damage(NamedTuple):
    """One thing that is wrong with a file of an index."""

    file: str
    message: str


def verify(
    path: str | os.PathLike[str],
    mode: str = "full",
    progress: Callable[[int, int], None] | None = None,
) -> list[Damage]:
    """Check an index; an empty list means that it is whole.

    ``quick`` checks what opening it checks: the manifest, every description, every size,
    every column that is read into memory. ``full`` reads every byte, names damaged ranges,
    and where there are none compares values, so that also files whose digests were made to
    fit are refused. ``progress`` is called with bytes read and bytes in all. Raises
    IndexMissingError or IndexFormatError.
    """
    if mode not in ("quick", "full"):
        raise UsageError(f"mode must be 'quick' or 'full', got {mode!r}.")
    store = Store(path)
    for _ in range(REOPENINGS):
        before = _pointer(store)
        damages = _damages(store, mode, progress)
        if not damages or _pointer(store) == before:
            break  # otherwise a commit took files away that were about to be read
    return damages


def _pointer(store: Store) -> bytes | None:
    try:
        return read_checked(store.path / CURRENT)
    except (OSError, IndexCorruptError):
        return None


def _damages(store: Store, mode: str, progress: Callable[[int, int], None] | None) -> list[Damage]:
    try:
        manifest = store.manifest()
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
            columns = read_description(folder, vars(entry))
            files += [(folder / f"{name}.bin", column) for name, column in columns.items()]
        except IndexCorruptError as error:
            damages.append(_damage(store.path, error))
    total = sum(column.size for _, column in files)
    done = 0
    for file, column in files:
        try:
            column.check_size(file)
            ranges = column.damaged_ranges(file) if mode == "full" else []
        except FileNotFoundError:
            damages.append(Damage(str(file.relative_to(store.path)), "missing"))
        except IndexCorruptError as error:
            damages.append(_damage(store.path, error))
        else:
            where = str(file.relative_to(store.path))
            damages += [Damage(where, f"damaged between byte {a} and {b}") for a, b in ranges]
        done += column.size
        if progress is not None:
            progress(done, total)
    return damages or _inconsistencies(store, mode)


def _inconsistencies(store: Store, mode: str) -> list[Damage]:
    """What is wrong between files that are each what was written."""
    damages = []
    try:
        snapshot = store.open()
        for segment in snapshot.segments if mode == "full" else ():
            try:
                check_segment(segment)
            except IndexCorruptError as error:
                damages.append(_damage(store.path, error))
        if not damages:
            check_searcher(snapshot, full=mode == "full")
    except IndexCorruptError as error:
        damages.append(_damage(store.path, error))
    return damages


def _damage(root: Path, error: IndexCorruptError) -> Damage:
    file, _, message = str(error).partition(": ")
    with contextlib.suppress(ValueError):
        file = str(Path(file).relative_to(root))
    return Damage(file, message)
