"""Measures, fusion, and experiments described by a file."""

from tokret.evaluation.comparison import Comparison, compare
from tokret.evaluation.experiment import Experiment
from tokret.evaluation.experiment_file import read_experiment
from tokret.evaluation.fusion import fusers
from tokret.evaluation.measures import Report, evaluate
from tokret.evaluation.record import environment
from tokret.evaluation.regression import assert_no_regression
from tokret.evaluation.runner import run_experiment
from tokret.evaluation.terms import explain_measure

__all__ = [
    "Comparison",
    "Experiment",
    "Report",
    "assert_no_regression",
    "compare",
    "environment",
    "evaluate",
    "explain_measure",
    "fusers",
    "read_experiment",
    "run_experiment",
]
