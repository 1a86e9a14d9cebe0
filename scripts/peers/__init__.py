"""Other engines behind one shape, for bench_peers.py: one file an engine.

An adapter is a module with

* ``REQUIREMENTS``: what pip installs, pinned; ``VENV``: the environment it may share;
* ``POINTS``: for each variant that is built, the settings that are searched;
* ``build(data, folder, variant, threads)``: write an index of ``data`` into ``folder``;
* ``opened(data, folder, variant, threads, settings)``: load it and give a function from a query
  [Q, H] to the positions of its best documents, best first.

An adapter imports its engine inside these functions, so that it can be read without it.
"""

from __future__ import annotations

import importlib
from types import ModuleType

PEERS = ("tokret", "tachiom", "faiss_xtr", "xtr_warp", "fast_plaid", "colbandit", "lance", "pylate")


def adapter(name: str) -> ModuleType:
    """The module of one peer."""
    if name not in PEERS:
        raise SystemExit(f"No peer {name!r}. Known: {', '.join(PEERS)}.")
    return importlib.import_module(f"peers.{name}")
