"""Leaderboards: systems ranked over tasks and queries, and how sure the order is."""

from tokret.evaluation.leaderboard.board import Leaderboard, rank_systems
from tokret.evaluation.leaderboard.bootstrap import bootstrap, tiers
from tokret.evaluation.leaderboard.kemeny import consensus
from tokret.evaluation.leaderboard.noise import Setting, left_out, reversed_tasks, simulate
from tokret.evaluation.leaderboard.rules import rules
from tokret.evaluation.leaderboard.runs import score_runs
from tokret.evaluation.leaderboard.scores import Scores, Task
from tokret.evaluation.leaderboard.table import Columns, read_scores
from tokret.evaluation.leaderboard.votes import Votes

__all__ = [
    "Columns",
    "Leaderboard",
    "Scores",
    "Setting",
    "Task",
    "Votes",
    "bootstrap",
    "consensus",
    "left_out",
    "rank_systems",
    "read_scores",
    "reversed_tasks",
    "rules",
    "score_runs",
    "simulate",
    "tiers",
]
