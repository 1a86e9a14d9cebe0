"""What a disk may hold after the power was cut, from what was done to it.

A file holds for sure what it held when it was last synced, and a folder the names that it
had when it was last synced. What a sync that failed should have written is gone for good,
though it is still seen: asking again writes only what was done since. Of what came later,
each write and each name may have reached the disk or not. A rename is one step: both of
its names change or neither does.
"""

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


class Node:
    """A file or a folder: what is sure of it, and what has happened since."""

    def __init__(self, folder: bool, data: bytes = b"") -> None:
        self.folder = folder
        self.data = data  # of a file, as last synced
        self.names: dict[str, Node] = {}  # of a folder, as last synced
        self.now: Any = {} if folder else bytearray(data)
        self.since: list[tuple[Any, ...]] = []

    def sync(self) -> None:
        """Be sure of all that was done since the last sync, one that failed counted."""
        if self.folder:
            self.names = named(self.names, self.since)
        else:
            self.data = filled(self.data, self.since)
        self.since = []

    def lose(self) -> None:
        """Fail to sync: what was done is seen, but not written, nor will it be at the next."""
        self.since = []


def loaded(path: Path) -> Node:
    """A tree on disk, all of it sure."""
    if path.is_file():
        return Node(False, path.read_bytes())
    node = Node(True)
    node.now = {child.name: loaded(child) for child in path.iterdir()}
    node.names = dict(node.now)
    return node


class Tree:
    """A folder to which calls are done one after another."""

    def __init__(self, start: Path, root: Path) -> None:
        self.root, self.top = root, loaded(start)

    def find(self, path: str) -> Node:
        """The file or folder at a path."""
        node = self.top
        for part in Path(os.path.relpath(path, self.root)).parts:
            node = node.now[part]
        return node

    def _name(self, path: str, node: Node | None, old: str | None = None) -> None:
        """Give a name in a folder to a node, or take it, and another away."""
        folder = self.find(os.path.dirname(path))
        changes = {os.path.basename(path): node}
        if old is not None:
            changes[os.path.basename(old)] = None
        for name, held in changes.items():
            if held is None:
                folder.now.pop(name, None)
            else:
                folder.now[name] = held
        folder.since.append((changes,))

    def do(self, call: str, *what: Any) -> None:  # noqa: ANN401
        """Do what a trace says."""
        if call in ("create", "mkdir"):
            self._name(what[0], Node(call == "mkdir"))
        elif call in ("unlink", "rmdir"):
            self._name(what[0], None)
        elif call == "replace":
            self._name(what[1], self.find(what[0]), what[0])
        elif call == "failed":
            self.find(what[0]).lose()
        elif call == "fsync":
            self.find(what[0]).sync()
        elif call in ("write", "truncate"):
            node = self.find(what[0])
            node.since.append((call, *what[1:]))
            changed(node.now, call, *what[1:])


def changed(data: bytearray, call: str, at: int, new: bytes = b"") -> None:
    """Do a write or a truncation to bytes."""
    if call == "truncate":
        del data[at:]
        data.extend(bytes(at - len(data)))
    else:
        data.extend(bytes(max(at - len(data), 0)))
        data[at : at + len(new)] = new


def filled(data: bytes, writes: Sequence[tuple[Any, ...]]) -> bytes:
    """Bytes of a file after writes to it."""
    out = bytearray(data)
    for one in writes:
        changed(out, *one)
    return bytes(out)


def named(names: dict[str, Node], since: Sequence[tuple[Any, ...]]) -> dict[str, Node]:
    """Names in a folder after changes of them."""
    out = dict(names)
    for (changes,) in since:
        for name, held in changes.items():
            if held is None:
                out.pop(name, None)
            else:
                out[name] = held
    return out


def written(node: Node, path: Path, luck: float, rng: random.Random) -> None:
    """Write what may be left; each thing that is not sure is there with chance ``luck``."""
    kept = [one for one in node.since if rng.random() < luck]
    if not node.folder:
        path.write_bytes(filled(node.data, kept))
        return
    path.mkdir()
    for name, held in named(node.names, kept).items():
        written(held, path / name, luck, rng)


def states(
    start: Path,
    root: Path,
    trace: Sequence[Any],
    place: Path,
    rng: random.Random,
    moments: Sequence[int],
) -> Iterator[tuple[int, bool]]:
    """Put at ``place`` what may be left of a trace that is cut at moments, which rise.

    Half of the images hold only what is sure, the others some of the rest as well. Yields the
    moment, and whether all was done.
    """
    tree, at = Tree(start, root), 0
    for image, moment in enumerate(moments):
        for event in trace[at:moment]:
            tree.do(*event)
        at = moment
        shutil.rmtree(place, ignore_errors=True)
        written(tree.top, place, rng.random() if image % 2 else 0.0, rng)
        yield moment, ("done",) in trace[:moment]
