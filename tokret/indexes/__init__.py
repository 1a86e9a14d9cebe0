"""Indexes: folders of documents and token vectors that are searched."""

from tokret.indexes.base import Backend, backends
from tokret.indexes.bm25 import Bm25
from tokret.indexes.build import build
from tokret.indexes.compact import Compacted
from tokret.indexes.exact import Exact
from tokret.indexes.faiss import Faiss
from tokret.indexes.index import Index
from tokret.indexes.ingest import Added, Interrupted, Progress
from tokret.indexes.ivf import Ivf
from tokret.indexes.repair import Repaired, repair
from tokret.indexes.verify import Damage, verify

__all__ = [
    "Added",
    "Backend",
    "Bm25",
    "Compacted",
    "Damage",
    "Exact",
    "Faiss",
    "Index",
    "Interrupted",
    "Ivf",
    "Progress",
    "Repaired",
    "backends",
    "build",
    "repair",
    "verify",
]
