"""Measures, fusion, and experiments described by a file."""

from tokret.evaluation.fusion import fusers
from tokret.evaluation.measures import Report, evaluate

__all__ = ["Report", "evaluate", "fusers"]
