"""How far long work has come: a bar, a line every ten seconds, or JSON events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from tokret.cli.clean import escaped
from tokret.cli.talk import Talk

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from tokret.collections import CorpusStats
    from tokret.indexes import Progress

LINE_EVERY = 10.0  # seconds between lines where no terminal shows a bar
EVENT_EVERY = 1.0  # seconds between JSON events
WINDOW = 20.0  # seconds that a rate looks back
PRECISE = 4 << 20  # bytes of a corpus; in a smaller one the reader's buffers run too far ahead
LONGEST = 100 * 3600  # seconds; a longer forecast is no forecast


class ProgressView:
    """``with ProgressView(talk) as view: build(..., progress=view)``.

    ``stats`` is the reader's own count: its bytes tell how much is left, and it knows
    the records that were left out.
    """

    def __init__(
        self,
        talk: Talk,
        stats: CorpusStats | None = None,
        *,
        unit: str = "docs",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._talk, self._stats, self._clock = talk, stats, clock
        self.unit = unit  # what ``documents`` counts
        self._bar: Bar | None = None
        self._stage = ""
        self._shown = 0.0
        self._began = clock()
        self._past: deque[tuple[float, int, int, int]] = deque()

    def __enter__(self) -> ProgressView:
        talk = self._talk
        self._began = self._shown = self._clock()
        wanted = talk.progress and not talk.quiet and talk.log_format == "text"
        if wanted and talk.err.is_terminal and not talk.err.is_dumb_terminal:
            self._bar = _bar(talk)
            self._bar.add_task("starting", total=None, numbers="", left="")
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, now: Progress) -> None:
        """Show one report; called as often as the work likes."""
        if not self._talk.progress or (self._talk.quiet and self._talk.log_format == "text"):
            return
        at = self._clock()
        if now.stage != self._stage:
            if self._stage:
                self._began = at
            self._stage = now.stage
            self._past.clear()
        self._past.append((at, now.documents, now.tokens, self.place(now)[0]))
        while at - self._past[0][0] > WINDOW:
            self._past.popleft()
        if self._bar is not None:
            self._draw(now)
        elif at - self._shown >= (EVENT_EVERY if self._talk.log_format == "json" else LINE_EVERY):
            self._shown = at
            self._report(now, at)

    def bytes(self, stage: str, done: int, total: int) -> None:
        """Show work that is measured in bytes alone."""
        from tokret.indexes import Progress

        self(Progress(stage, done, 0, 0, done, total))

    def place(self, now: Progress) -> tuple[int, int | None]:
        """How much is done of how much: bytes of the corpus, or else documents."""
        total = self._stats.total_bytes if self._stats is not None else None
        if self._stats is not None and total is not None and total >= PRECISE:
            return min(self._stats.bytes_read, total), total
        return now.documents, now.total

    def rates(self) -> tuple[float, float, float]:
        """Documents, tokens and ``place`` a second, lately."""
        if len(self._past) < 2 or self._past[-1][0] <= self._past[0][0]:
            return 0.0, 0.0, 0.0
        (t0, d0, k0, b0), (t1, d1, k1, b1) = self._past[0], self._past[-1]
        return (d1 - d0) / (t1 - t0), (k1 - k0) / (t1 - t0), (b1 - b0) / (t1 - t0)

    def left(self, now: Progress) -> float | None:
        """Seconds to go, or None where nobody can know."""
        speed = self.rates()[2]
        done, total = self.place(now)
        if not total or speed <= 0:
            return None
        seconds = max(total - done, 0) / speed
        return seconds if seconds < LONGEST else None

    def _report(self, now: Progress, at: float) -> None:
        documents, tokens, _ = self.rates()
        left = self.left(now)
        done, total = self.place(now)
        if self._talk.log_format == "json":
            self._talk.event(
                "progress",
                stage=now.stage,
                done=done,
                total=total,
                documents=now.documents,
                passages=now.passages,
                tokens=now.tokens,
                rate=round(documents, 1),
                tokens_rate=round(tokens, 1),
                elapsed_s=round(at - self._began, 1),
                eta_s=None if left is None else round(left, 1),
                truncated=now.truncated,
                skipped=self._skipped(),
            )
            return
        share = f"{done / total:.0%}, " if total else ""
        self._talk.say(f"{now.stage}: {share}{self._numbers(now)}, {self._times(now, at)}")

    def _draw(self, now: Progress) -> None:
        bar = self._bar
        if bar is None:
            return
        done, total = self.place(now)
        left = self.left(now)
        bar.update(
            bar.task_ids[0],
            description=escaped(now.stage),
            completed=done,
            total=total,
            numbers=self._numbers(now),
            left="" if left is None else f"{duration(left)} left",
        )

    def _numbers(self, now: Progress) -> str:
        documents, tokens, _ = self.rates()
        parts = [f"{now.documents:,} {self.unit}"]
        if documents:
            parts.append(f"{documents:,.0f} {self.unit}/s")
        if tokens:
            parts.append(f"{tokens:,.0f} tokens/s")
        if now.truncated:
            parts.append(f"{now.truncated:,} cut")
        if self._skipped():
            parts.append(f"{self._skipped():,} skipped")
        return ", ".join(parts)

    def _skipped(self) -> int:
        return 0 if self._stats is None else self._stats.skipped + self._stats.quarantined

    def _times(self, now: Progress, at: float) -> str:
        left = self.left(now)
        rest = "" if left is None else f", {duration(left)} left"
        return f"{duration(at - self._began)}{rest}"


def duration(seconds: float) -> str:
    """``0:07``, ``12:30`` or ``3:00:00``."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _bar(talk: Talk) -> Bar:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24, complete_style="cyan", finished_style="cyan", pulse_style="cyan"),
        TextColumn("{task.fields[numbers]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
        console=talk.err,
        transient=True,
        refresh_per_second=4,
    )
