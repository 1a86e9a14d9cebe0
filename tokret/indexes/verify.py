"""Verification: every file of an index against what its manifest says."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tokret.errors import IndexCorruptError, UsageError
from tokret.indexes.consistency import check_searcher, check_segment
from tokret.indexes.files import (
    BLOCK,
    Column,
    blocks_damaged,
    parse_json,
    read_checked,
    regular_size,
    seal_holds,
    to_json,
)
from tokret.indexes.manifest import SEGMENT_ID, Manifest
from tokret.indexes.segment import COLUMN_NAME, read_description, refuse_links
from tokret.indexes.store import BUILD, CURRENT, REOPENINGS, Store


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
    return [*(damages or _inconsistencies(store, mode)), *_unfinished(store, manifest, mode)]


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


def _unfinished(store: Store, manifest: Manifest, mode: str) -> list[Damage]:
    """What is wrong with a build that waits to be gone on with; no search needs it."""
    path = store.path / BUILD
    try:
        data = read_checked(path)
        state = parse_json(data)
        if data != to_json(state) or not seal_holds(state):
            return [Damage(BUILD, "not as it was written; build again with --restart")]
        if state["base"] != manifest.version or state["ingest"]["writing"] is None:
            return []
        writing = state["ingest"]["writing"]
        if not SEGMENT_ID.fullmatch(writing["id"]) or not all(
            COLUMN_NAME.fullmatch(name) for name in writing["columns"]
        ):
            raise ValueError("a segment or a column has no name of ours")
        damages = []
        refuse_links(store.segments / writing["id"])
        for name, column in writing["columns"].items():
            file = store.segments / writing["id"] / f"{name}.bin"
            rows = [column["rows"]] + ([column["width"]] if column["width"] else [])
            size = math.prod(rows) * np.dtype(column["dtype"]).itemsize
            where = str(file.relative_to(store.path))
            if regular_size(file) < size:
                damages.append(Damage(where, f"shorter than the {size} bytes of its build"))
            elif mode == "full":
                last = [column["tail"]] if size % BLOCK else []
                bad = blocks_damaged(file, [*column["blocks"], *last], size)
                damages += [Damage(where, f"damaged between byte {a} and {b}") for a, b in bad]
        return damages
    except FileNotFoundError as error:
        name = Path(error.filename)
        return [] if name == path else [Damage(str(name.relative_to(store.path)), "missing")]
    except IndexCorruptError as error:
        return [_damage(store.path, error)]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        return [Damage(BUILD, f"not the state of a build ({error})")]


def _damage(root: Path, error: IndexCorruptError) -> Damage:
    file, _, message = str(error).partition(": ")
    with contextlib.suppress(ValueError):
        file = str(Path(file).relative_to(root))
    return Damage(file, message)
