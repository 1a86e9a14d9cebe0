"""Measures, fusion, and experiments described by a file."""

from tokret.evaluation.measures import Report, evaluate, removes_self

__all__ = ["Report", "evaluate", "removes_self"]
