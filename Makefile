# The two commands of the README: `make demo` and `make test`. Each makes .venv if need be.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := pyproject.toml constraints.txt $(wildcard kernels/*)

.PHONY: demo test lint types clean

demo: .venv/.installed
	$(BIN)/tokret demo

test: .venv/.tested lint types
	$(BIN)/python -m pytest

lint: .venv/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.tested
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("tokret needs Python 3.11 or later: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python $(SOURCES)
	$(BIN)/pip install --quiet -e .
	touch $@

.venv/.tested: .venv/bin/python $(SOURCES)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,st,faiss]'
	touch $@ .venv/.installed

clean:
	rm -rf .venv build dist site .mypy_cache .pytest_cache .ruff_cache
