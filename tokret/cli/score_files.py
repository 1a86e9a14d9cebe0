"""The files that leaderboards and bars are made from: tables, records, or runs with qrels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tokret.errors import UsageError

if TYPE_CHECKING:
    from tokret.collections import Qrels, Run
    from tokret.evaluation.leaderboard import Columns, Scores


def scores_of(
    files: Sequence[str], columns: Columns, qrels: Sequence[str], split: str
) -> tuple[Scores, tuple[str, ...]]:
    """Read scores, and what a reader should know; runs are measured against ``qrels``."""
    from tokret.evaluation.leaderboard import read_scores

    if not qrels:
        return read_scores(files, columns)
    if columns.system or columns.query or columns.task or columns.drop:
        raise UsageError("--system, --query, --task and --drop are for tables, not for runs.")
    scores, notes = _of_runs(files, qrels, columns.measures, split)
    return scores.negated(columns.lower) if columns.lower else scores, notes


def _of_runs(
    files: Sequence[str], qrels: Sequence[str], measures: Sequence[str], split: str
) -> tuple[Scores, tuple[str, ...]]:
    """Read runs, each of the collection that its folder names, and measure them."""
    from tokret.collections import load_collection, read_qrels, read_run
    from tokret.evaluation.leaderboard import score_runs

    judged: dict[str, Qrels] = {}
    for text in qrels:
        name, equals, path = text.rpartition("=")
        if not equals:
            name = Path(path).name.partition(".")[0]
        if name in judged:
            raise UsageError(f"Two --qrels are called {name!r}; name them: --qrels NAME={path}")
        judged[name] = (
            load_collection(path, split).qrels if Path(path).is_dir() else read_qrels(path)
        )
    runs: dict[str, dict[str, Run]] = {name: {} for name in judged}
    for file in files:
        folder, system = Path(file).absolute().parent.name, Path(file).name.partition(".")[0]
        collection = next(iter(judged)) if len(judged) == 1 else folder
        if collection not in runs:
            raise UsageError(
                f"{file}: its folder is called {folder!r}, and no --qrels are; there are "
                f"{', '.join(judged)}. Put runs into folders named for their collections."
            )
        if system in runs[collection]:
            raise UsageError(f"{file}: a second run of {system!r} on {collection!r}.")
        runs[collection][system] = read_run(file)
    for collection, by_system in runs.items():
        if not by_system:
            raise UsageError(f"No run is in a folder called {collection!r}, which --qrels names.")
    return score_runs(runs, judged, measures or ["nDCG@10"])
