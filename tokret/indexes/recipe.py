"""Recipes: how to build an index, in a small TOML file.

A recipe holds any of ``backend``, ``model``, ``long``, ``max_tokens``, ``overlap`` and
``normalize``; ``tokret index --recipe FILE`` and ``recipe = "FILE"`` in an experiment read it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from tokret.errors import InputError, UsageError
from tokret.indexes.base import backends
from tokret.indexes.manifest import Settings
from tokret.registry import did_you_mean, parse

MAX_FILE = 1 << 20  # bytes; recipes and experiments are a page of text
KEYS = {
    "backend": str,
    "model": str,
    "long": str,
    "max_tokens": int,
    "overlap": int,
    "normalize": bool,
}


def read_recipe(path: str | Path) -> dict[str, Any]:
    """Read and check a recipe. Raises UsageError that names the file and what is wrong."""
    recipe = read_toml(path)
    try:
        for key, value in recipe.items():
            if key not in KEYS:
                raise UsageError(
                    f"a recipe has no key {key!r}.{did_you_mean(key, KEYS)} "
                    f"Known: {', '.join(KEYS)}."
                )
            if type(value) is not KEYS[key]:
                raise UsageError(f"{key} must be {called(KEYS[key])}, got {value!r}.")
        if "backend" in recipe:
            backends.build(recipe["backend"])
        if "model" in recipe:
            parse(recipe["model"])
        Settings(**{k: v for k, v in recipe.items() if k not in ("backend", "model")})
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return recipe


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file of at most MAX_FILE bytes. Raises InputError that names it."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_FILE + 1)
        if len(raw) > MAX_FILE:
            raise InputError(f"{path}: longer than {MAX_FILE:,} bytes.")
        return tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; TOML is.") from error
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        raise InputError(f"{path}: not TOML: {error}.") from error
    except RecursionError as error:
        raise InputError(f"{path}: nested too deeply.") from error


def called(kind: type) -> str:
    """What a person calls a type."""
    return {str: "a text", int: "a whole number", bool: "true or false", dict: "a table"}[kind]
