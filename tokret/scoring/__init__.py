"""The scorers, one file each: how token vectors become a score."""

from tokret.scoring.base import Part, Scorer, scorers
from tokret.scoring.maxsim import MaxSim
from tokret.scoring.xtr import Xtr

__all__ = ["MaxSim", "Part", "Scorer", "Xtr", "scorers"]
