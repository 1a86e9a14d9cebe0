"""Token-level multi-vector retrieval: encode, index, search, evaluate.

Importing this page is cheap: what needs an encoder, an index or a table is loaded
when it is first named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tokret.errors import TokretError
from tokret.types import Document, Hit, Match, Query, Tokens

if TYPE_CHECKING:
    from tokret.indexes import Index

__version__ = "0.1.0"
__all__ = ["Document", "Hit", "Index", "Match", "Query", "Tokens", "TokretError", "__version__"]

_LAZY = {"Index": "tokret.indexes"}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'tokret' has no attribute {name!r}")
