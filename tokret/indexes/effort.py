"""What a search is asked for, and how much of an index it therefore looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tokret.errors import UsageError

CHUNK = 8  # passages whose codes are read between two looks at what is still to be expected
PROBES = (2, 4, 8, 16, 32)
MARGINS = (0.0, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.11, 0.12, 0.14, 0.16, 0.2)
COMPARED = 3  # passages compared by their cells for each whose codes may be read
CANDIDATES = 512


class Target(NamedTuple):
    """What a user asks of one search; all None: what the index was opened with.

    ``recall`` of the exact best; ``budget_ms`` of one thread's time, by what was measured at
    the build; ``exact`` is proven, not aimed at.
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
    ms: float  # of one thread, a query

    @property
    def effort(self) -> Effort:
        """The search that it was measured with."""
        return Effort(self.nprobe, CANDIDATES, self.margin)


DEFAULT = Setting(0.0, 16, 0.11, 0.0)  # where nothing was measured


def settings_of(facts: Mapping[str, Any]) -> list[Setting]:
    """Settings that a codebook keeps. Raises ValueError or TypeError for what are none."""
    settings = [
        Setting(float(recall), int(nprobe), float(margin), float(ms))
        for recall, nprobe, margin, ms in facts.get("calibration", [])
    ]
    for recall, nprobe, margin, ms in settings:
        if not (0 <= recall <= 1 and 1 <= nprobe <= 1 << 16 and margin >= 0 and ms >= 0):
            raise ValueError("a setting that no search can have")
    return settings


def choose(settings: Sequence[Setting], target: Target, recall: float) -> Setting:
    """The cheapest setting that reaches a recall, or the best that fits a time."""
    if not settings:
        return DEFAULT
    if target.budget_ms is not None:
        fitting = [setting for setting in settings if setting.ms <= target.budget_ms]
        return max(fitting or settings[:1], key=lambda setting: setting.recall)
    wanted = target.recall if target.recall is not None else recall
    reaching = [setting for setting in settings if setting.recall >= wanted]
    return min(reaching, key=lambda setting: setting.ms) if reaching else settings[-1]
