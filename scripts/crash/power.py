"""What a disk may hold after the power was cut, from what was done to it.

A file holds for sure what it held when it was last synced, and a folder the names that it
had when it was last synced. Of what came later, each write and each name may have reached
the disk or not. A rename is one step: both of its names change or neither does.
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
        """Be sure of all that is there now."""
        if self.folder:
            self.names = dict(self.now)
        else:
            self.data = bytes(self.now)
        self.since = []


def loaded(path: Path) -> Node:
    """A tree on disk, all of it sure."""
    if path.is_file():
        return Node(False, path.read_bytes())
    node = Node(True)
    node.now = {child.name: loaded(child) for child in path.iterdir()}
    node.sync()
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


def written(node: Node, path: Path, luck: float, rng: random.Random) -> None:
    """Write what may be left; each thing that is not sure is there with chance ``luck``."""
    kept = [one for one in node.since if rng.random() < luck]
    if not node.folder:
        data = bytearray(node.data)
        for one in kept:
            changed(data, *one)
        path.write_bytes(data)
        return
    names = dict(node.names)
    for (changes,) in kept:
        for name, held in changes.items():
            if held is None:
                names.pop(name, None)
            else:
                names[name] = held
    path.mkdir()
    for name, held in names.items():
        written(held, path / name, luck, rng)


def states(
    start: Path, root: Path, trace: Sequence[Any], place: Path, rng: random.Random, images: int
) -> Iterator[tuple[str, bool]]:
    """Put what may be left at ``place``; yields where it was cut and if the change was done.

    Half of the images hold only what is sure, the others some of the rest as well.
    """
    moments = sorted([*rng.choices(range(len(trace) + 1), k=images - 2), 0, len(trace)])
    tree, at = Tree(start, root), 0
    for image, moment in enumerate(moments):
        for event in trace[at:moment]:
            tree.do(*event)
        at = moment
        shutil.rmtree(place, ignore_errors=True)
        written(tree.top, place, rng.random() if image % 2 else 0.0, rng)
        done = ("done",) in trace[:moment]
        yield f"cut after {moment} of {len(trace)} calls", done
