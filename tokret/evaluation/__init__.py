"""Measures, fusion, and experiments described by a file."""

from tokret.evaluation.experiment import Experiment
from tokret.evaluation.experiment_file import read_experiment
from tokret.evaluation.fusion import fusers
from tokret.evaluation.measures import Report, evaluate
from tokret.evaluation.record import environment
from tokret.evaluation.runner import run_experiment

__all__ = [
    "Experiment",
    "Report",
    "environment",
    "evaluate",
    "fusers",
    "read_experiment",
    "run_experiment",
]
