"""Pictures of measures: bars with intervals, latency against quality."""

from tokret.evaluation.plots.bars import Bar, bars_of, draw_bars
from tokret.evaluation.plots.pareto import Point, draw_pareto, front, points_of

__all__ = ["Bar", "Point", "bars_of", "draw_bars", "draw_pareto", "front", "points_of"]
