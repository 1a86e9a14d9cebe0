"""The manifest: which segments make one committed version, and how they were made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tokret import __version__
from tokret.encoders.base import Identity
from tokret.errors import IndexCorruptError, IndexFormatError, UsageError
from tokret.indexes.files import Column, parse_json, read_json, to_json

FORMAT = 1
OLDEST = 1  # format that is read
FEATURES = frozenset({"fields"})  # what a manifest may ask of its reader, beyond FORMAT
SINCE: dict[int | str, str] = {1: "0.1.0", "fields": "0.1.0"}  # the tokret that reads each
LAST: dict[int, str] = {}  # the last tokret that reads a format below OLDEST
MOST_WIDTH = 1 << 20  # of a vector
RELEASE = re.compile(r"\d{1,4}(\.\d{1,4}){1,3}")
SEGMENT_ID = re.compile(r"seg-[0-9a-f]{16}")
MANIFEST_NAME = re.compile(r"manifest-[0-9]{8}\.json")
DELETES_NAME = re.compile(r"deletes-[0-9a-f]{16}\.bin")


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
        most = self.max_tokens
        if most is not None and (type(most) is not int or most < 4):
            raise UsageError(f"max_tokens must be at least 4, a whole number, got {most!r}.")
        if type(self.overlap) is not int or self.overlap < 0:
            raise UsageError(f"overlap must be a whole number from 0 on, got {self.overlap!r}.")
        if type(self.normalize) is not bool:
            raise UsageError(f"normalize must be true or false, got {self.normalize!r}.")


@dataclass(frozen=True)
class Entry:
    """A segment as a manifest names it, with the documents deleted from it."""

    id: str
    kind: str
    bytes: int
    sha256: str
    deletes: str | None = None  # file that lists deleted documents, int64
    deletes_column: Column | None = None
    features: tuple[str, ...] = ()  # what its readers must know, of FEATURES

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        value: dict[str, Any] = {
            "id": self.id,
            "kind": self.kind,
            "bytes": self.bytes,
            "sha256": self.sha256,
        }
        if self.features:
            value["features"] = list(self.features)
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
            if column.dtype != "<i8" or len(column.shape) != 1:
                raise IndexCorruptError(f"{where}: {name} must be <i8 [rows].")
            deletes = name
        features = value.get("features", [])
        if not isinstance(features, list) or not set(map(str, features)) <= FEATURES:
            raise IndexCorruptError(f"{where}: a segment has unknown features.")
        plain = (value["id"], value["kind"], value["bytes"], value["sha256"])
        entry = cls(*plain, deletes, column, tuple(features))
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
        entries = [*self.segments, *([self.derived] if self.derived else [])]
        features = sorted({name for entry in entries for name in entry.features})
        used: list[int | str] = [FORMAT, *features]
        return to_json(
            {
                "format": FORMAT,
                "features": features,
                "needs": max((SINCE[name] for name in used), key=_numbers),
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
        return cls._checked(path, read_json(path, sha256=sha256))

    @classmethod
    def parse(cls, path: Path, data: bytes) -> Manifest:
        """Check the bytes of a manifest that is to lie at ``path``, its writer's to the letter."""
        try:
            value = parse_json(data)
        except (ValueError, RecursionError) as error:
            raise IndexCorruptError(f"{path}: not the JSON it should be: {error}.") from error
        if to_json(value) != data:
            raise IndexCorruptError(f"{path}: not as a writer of ours writes it.")
        return cls._checked(path, value)

    @classmethod
    def _checked(cls, path: Path, value: dict[str, Any]) -> Manifest:
        if type(value.get("format")) is not int or value["format"] < 1:
            raise IndexCorruptError(f"{path}: has no format number.")
        if value["format"] > FORMAT:
            raise IndexFormatError(
                f"{path} has format {value['format']}; tokret {__version__} reads up to "
                f"{FORMAT}. {_needs(value)}"
            )
        if value["format"] < OLDEST:
            last = LAST[value["format"]]
            raise IndexFormatError(
                f"{path} has format {value['format']}; tokret {__version__} reads from {OLDEST} "
                f"on. The last that reads it is tokret {last}; build the index anew with this one."
            )
        features = value.get("features")
        if not isinstance(features, list) or not all(isinstance(f, str) for f in features):
            raise IndexCorruptError(f"{path}: features must be a list of strings.")
        unknown = sorted(set(features) - FEATURES)
        if unknown:
            raise IndexFormatError(
                f"{path} uses {', '.join(map(repr, unknown))}, which tokret {__version__} does "
                f"not know. {_needs(value)}"
            )
        try:
            encoder = value["encoder"]
            manifest = cls(
                version=value["version"],
                backend=value["backend"],
                encoder=None if encoder is None else _identity(**encoder),
                settings=Settings(**value["settings"]),
                segments=tuple(Entry.from_dict(e, str(path)) for e in value["segments"]),
                derived=None
                if value["derived"] is None
                else Entry.from_dict(value["derived"], str(path)),
            )
        except (KeyError, TypeError, UsageError) as error:
            raise IndexCorruptError(f"{path}: not a manifest of ours ({error}).") from error
        if (
            type(manifest.version) is not int
            or path.name != manifest_name(manifest.version)
            or not isinstance(manifest.backend, str)
        ):
            raise IndexCorruptError(f"{path}: not a manifest of ours.")
        entries = [*manifest.segments, *([manifest.derived] if manifest.derived else [])]
        if len({entry.id for entry in entries}) < len(entries):
            raise IndexCorruptError(f"{path}: names a segment twice.")
        return manifest


def manifest_name(version: int) -> str:
    """File of a version's manifest."""
    return f"manifest-{version:08d}.json"


def _needs(value: dict[str, Any]) -> str:
    """Which tokret reads what this one does not, by what the manifest says."""
    needs = value.get("needs")
    if isinstance(needs, str) and RELEASE.fullmatch(needs):
        return f"It needs tokret {needs} or later: upgrade tokret."
    return f"It was written by {value.get('written_by')!r:.80}: upgrade tokret."


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def _identity(spec: object, sha256: object, dim: object) -> Identity:
    if not isinstance(spec, str) or not isinstance(sha256, str) or type(dim) is not int:
        raise TypeError("the encoder has a value of another type")
    if not 1 <= dim < MOST_WIDTH:
        raise TypeError(f"the encoder makes vectors of width {dim}")
    return Identity(spec, sha256, dim)
