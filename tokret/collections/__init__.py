"""Corpora, queries, judgements and runs, read strictly and written exactly."""

from tokret.collections.collection import (
    Collection,
    SelfMatches,
    load_collection,
    sample_path,
    self_matches,
)
from tokret.collections.corpus import CorpusStats, read_corpus
from tokret.collections.qrels import Qrels, read_qrels
from tokret.collections.queries import read_queries
from tokret.collections.run import Ranking, Run, falling, ranked
from tokret.collections.run_stream import RunFile, ScatteredError
from tokret.collections.runs import RUN_FORMATS, RunFormat, Written, read_run, write_run

__all__ = [
    "RUN_FORMATS",
    "Collection",
    "CorpusStats",
    "Qrels",
    "Ranking",
    "Run",
    "RunFile",
    "RunFormat",
    "ScatteredError",
    "SelfMatches",
    "Written",
    "falling",
    "load_collection",
    "ranked",
    "read_corpus",
    "read_qrels",
    "read_queries",
    "read_run",
    "sample_path",
    "self_matches",
    "write_run",
]
