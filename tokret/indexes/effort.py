"""What a search is asked for, and how much of an index it therefore looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tokret.errors import UsageError

CHUNK = 8  # passages whose codes are read between two looks at what is still to be expected
PROBES = (2, 4, 8, 16, 32)
MARGINS = (0.0, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.11, 0.12, 0.14, 0.16, 0.2)
COMPARED = 3  # passages compared by their cells for each whose codes may be read
CANDIDATES = 512


class Target(NamedTuple):
    """What a user asks of one search; all None: what the index was opened with.

    ``recall`` of the exact best, by what was measured at the build; ``budget_ms`` of one
    thread's time on this machine; ``exact`` is proven, not aimed at.
    """

    recall: float | None = None
    budget_ms: float | None = None
    exact: bool = False

    def checked(self) -> Target:
        """Refuse values that nothing can meet, and two wishes at once."""
        if self.recall is not None and not 0 < self.recall <= 1:
            raise UsageError(f"recall must be above 0 and at most 1, got {self.recall!r}.")
        if self.budget_ms is not None and not self.budget_ms > 0:
            raise UsageError(f"budget_ms must be above 0, got {self.budget_ms!r}.")
        if (self.recall is not None) + (self.budget_ms is not None) + self.exact > 1:
            raise UsageError("Ask for one of recall, budget_ms and exact.")
        return self


class Effort(NamedTuple):
    """How much of the index a search looks at.

    ``nprobe`` cells for each query token; of the passages in them ``COMPARED`` times
    ``candidates`` are compared by all their cells, and of these at most ``candidates`` by
    their codes, as long as they are expected within ``margin`` of the best found.
    """

    nprobe: int
    candidates: int
    margin: float  # a query token

    @property
    def compared(self) -> int:
        """Passages compared by their cells."""
        return COMPARED * self.candidates


class Setting(NamedTuple):
    """What calibration measured for one effort."""

    recall: float
    nprobe: int
    margin: float
    work: float  # of one query

    @property
    def effort(self) -> Effort:
        """The search that it was measured with."""
        return Effort(self.nprobe, CANDIDATES, self.margin)


class Work(NamedTuple):
    """What one search does: cells scored, postings, cells of passages, tokens read."""

    cells: float
    postings: float
    entries: float
    tokens: float

    def weighed(self, width: int) -> float:
        """All of it in one number, for rows ``width`` W wide; the unit is that of WEIGHTS."""
        wide = width / WEIGHED_WIDTH
        alike = (self.cells * wide, self.postings, self.entries, self.tokens * wide)
        return sum(count * weight for count, weight in zip(alike, WEIGHTS, strict=True))


# What each is to one another: nanoseconds of one AVX-512 core with 24 query tokens, by
# scripts/bench_stages.py. Fixed, so that the same data make the same choice on any machine.
WEIGHTS = Work(42, 4, 1, 75)
WEIGHED_WIDTH = 128
GROWN = 1.5  # times as many tokens: what was measured is measured again
DEPTHS = (10, 100)  # numbers of documents for which recall is measured


class Calibration(NamedTuple):
    """Settings by number of documents wanted, and what they were measured on."""

    tokens: int  # of the collection
    queries: int
    given: bool  # real queries, not made of tokens of documents
    ceilings: Mapping[int, float]  # recall of the most careful search
    curves: Mapping[int, Sequence[Setting]]

    def curve(self, k: int) -> Sequence[Setting]:
        """That of ``k`` documents, or of the next larger number, or of the largest."""
        above = [depth for depth in self.curves if depth >= k]
        return self.curves[min(above, default=max(self.curves))]

    def stale(self, tokens: int) -> bool:
        """Whether so many tokens are too many for what was measured to hold."""
        return tokens > GROWN * self.tokens

    def facts(self) -> dict[str, Any]:
        """What a codebook keeps of it; JSON-able."""
        by_depth = {
            str(depth): {"ceiling": self.ceilings[depth], "settings": [list(s) for s in curve]}
            for depth, curve in self.curves.items()
        }
        asked = {"queries": self.queries, "given": self.given}
        return {"tokens": self.tokens, **asked, "depths": by_depth}


def calibration_of(facts: Mapping[str, Any]) -> Calibration | None:
    """What a codebook keeps of a calibration, or None where there was none.

    Raises KeyError, TypeError, ValueError or AttributeError for what is none.
    """
    held = facts.get("calibration")
    if held is None:
        return None
    ceilings, curves = {}, {}
    for name, found in held["depths"].items():
        settings = [
            Setting(float(recall), int(nprobe), float(margin), float(work))
            for recall, nprobe, margin, work in found["settings"]
        ]
        for recall, nprobe, margin, work in settings:
            if not (0 <= recall <= 1 and 1 <= nprobe <= 1 << 16 and margin >= 0 and work >= 0):
                raise ValueError("a setting that no search can have")
        ceilings[int(name)] = float(found["ceiling"])
        curves[int(name)] = settings
        if not settings or int(name) < 1 or not 0 <= ceilings[int(name)] <= 1:
            raise ValueError("a curve that nothing measured")
    if not curves or min(int(held["tokens"]), int(held["queries"])) < 0:
        raise ValueError("a calibration without a curve")
    return Calibration(
        int(held["tokens"]), int(held["queries"]), bool(held["given"]), ceilings, curves
    )


class Speed(NamedTuple):
    """Milliseconds of a query on this machine: a constant, and some for a unit of work."""

    constant: float
    unit: float

    def ms(self, work: float) -> float:
        """Of so much work."""
        return self.constant + self.unit * work


DEFAULT = Setting(0.0, 16, 0.11, 0.0)  # where nothing was measured


def choose(
    settings: Sequence[Setting], target: Target, recall: float, speed: Callable[[], Speed]
) -> Setting:
    """The setting of least work that reaches a recall, or the best that fits a time.

    ``settings`` rise in recall and work. ``speed`` is asked for only where a time is given.
    """
    if not settings:
        return DEFAULT
    if target.budget_ms is not None:
        here = speed()
        fitting = [setting for setting in settings if here.ms(setting.work) <= target.budget_ms]
        return (fitting or settings[:1])[-1]
    wanted = target.recall if target.recall is not None else recall
    reaching = [setting for setting in settings if setting.recall >= wanted]
    return (reaching or settings[-1:])[0]
