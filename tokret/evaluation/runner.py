"""Run an experiment: index, search, fuse, measure; what is done is not done again.

Indexes and runs lie in a work folder under a key, the digest of everything that made
them: corpus, model, settings, queries, version. The same call after an interruption
goes on where it stopped, inside an index too; measuring is always done anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tokret.collections import (
    Collection,
    load_collection,
    read_run,
    sample_path,
    write_run,
)
from tokret.encoders import Encoder, encoders
from tokret.errors import InputError
from tokret.evaluation.experiment import SAMPLE, Experiment, Fused, IndexPlan, Searched, System
from tokret.evaluation.fusion import fusers
from tokret.evaluation.measures import evaluate
from tokret.evaluation.record import cores, environment, now
from tokret.evaluation.result import Made, Result, result_of
from tokret.evaluation.work_folder import WorkFolder, corpus_identity, digest
from tokret.indexes import Index, Interrupted, Progress, build
from tokret.types import Document, Hit

QUERIES_AT_ONCE = 32  # between two looks at `stop`; also the encoder's batch
READ_BYTES = 1 << 20


class Step(NamedTuple):
    """How far an experiment has come: step ``number`` of ``steps``, and how far within it.

    ``what`` is index, search or fuse, ``name`` the backend or the system; ``done`` counts
    documents or queries, of ``total`` where known. A step that was done before comes once,
    ``reused``. ``build`` is the progress of an index.
    """

    number: int
    steps: int
    what: str
    name: str
    done: int
    total: int | None
    reused: bool = False
    build: Progress | None = None


def run_experiment(
    experiment: Experiment,
    work: str | Path,
    *,
    models: Mapping[str, Encoder] | None = None,
    threads: int | None = None,
    restart: bool = False,
    progress: Callable[[Step], None] | None = None,
    stop: Callable[[], bool] | None = None,
    command: str | None = None,
) -> Result:
    """Do what is left of ``experiment`` in the folder ``work``, and measure everything.

    ``models`` gives encoders for names of the experiment that are no registered spec.
    ``threads`` is the number of queries searched at a time; all cores if None.
    ``restart`` makes indexes and runs anew. ``stop`` is asked between batches; True saves
    the state and raises Interrupted, and the same call goes on. ``command`` is kept in
    the record. Raises InputError for a bad collection, LockedError where another process
    works in the folder, and what indexes and encoders raise.
    """
    folder = WorkFolder(Path(work), restart)
    with folder.locked():
        session = _Session(
            experiment, folder, models or {}, threads or cores(), progress, stop, command
        )
        return session.run()


class _Session:
    """One call of ``run_experiment``."""

    def __init__(
        self,
        experiment: Experiment,
        folder: WorkFolder,
        models: Mapping[str, Encoder],
        threads: int,
        progress: Callable[[Step], None] | None,
        stop: Callable[[], bool] | None,
        command: str | None,
    ) -> None:
        self._experiment, self._folder, self._threads = experiment, folder, threads
        self._models = dict(models)
        self._progress, self._stop = progress, stop
        self._command, self._environment = command, environment()
        self._collection = _limited(experiment, _load(experiment))
        self._corpus = corpus_identity(self._collection.source, experiment.limit_documents)
        self._queries = digest([list(query) for query in self._collection.queries])
        plans = {s.index for s in experiment.systems if isinstance(s, Searched)}
        self._steps = len(plans) + len(experiment.systems)
        self._number = 0
        self._indexes: dict[IndexPlan, tuple[Path, dict[str, Any]]] = {}

    def run(self) -> Result:
        meta, started = self._stamp, time.perf_counter()
        made: dict[str, Made] = {}
        for system in self._experiment.order():
            made[system.name] = (
                self._fused(system, made) if isinstance(system, Fused) else self._searched(system)
            )
        meta["seconds"] = round(time.perf_counter() - started, 3)
        in_order = [made[system.name] for system in self._experiment.systems]
        return result_of(self._experiment, self._collection, self._corpus, in_order, meta)

    def _searched(self, system: Searched) -> Made:
        path, index = self._index(system.index)
        self._number += 1
        texts = [query.text for query in self._collection.queries]
        makes = {
            "index": path.name,
            "scorer": system.scorer,
            "queries": self._queries,
            "k": self._depth,
        }

        def search() -> tuple[dict[str, list[Hit]], float]:
            hits: list[list[Hit]] = []
            with Index.open(path, encoder=self._model(system.index)) as opened:
                self._check_judged(opened)
                start = time.perf_counter()
                for first in range(0, len(texts), QUERIES_AT_ONCE):
                    self._tell("search", system.name, first, len(texts))
                    self._check_stop()
                    hits += opened.search_many(
                        texts[first : first + QUERIES_AT_ONCE],
                        self._depth,
                        scorer=system.scorer,
                        threads=self._threads,
                        text=False,
                    )
                seconds = time.perf_counter() - start
            ids = (query.query_id for query in self._collection.queries)
            return dict(zip(ids, hits, strict=True)), seconds

        return self._made(system, "search", makes, search, index)

    def _fused(self, system: Fused, made: Mapping[str, Made]) -> Made:
        self._number += 1
        parts = [made[name] for name in system.fuse]
        makes = {
            "runs": [part.path.stem for part in parts],
            "method": system.method,
            "k": self._depth,
        }

        def fuse() -> tuple[dict[str, dict[str, float]], float]:
            self._check_stop()
            runs = [read_run(part.path) for part in parts]
            start = time.perf_counter()
            fused = fusers.build(system.method).fuse(runs).ranking
            best = {q: dict(islice(docs.items(), self._depth)) for q, docs in fused.items()}
            return best, time.perf_counter() - start

        return self._made(system, "fuse", makes, fuse, None)

    def _made(
        self,
        system: System,
        what: str,
        makes: Mapping[str, Any],
        make: Callable[[], tuple[Any, float]],
        index: dict[str, Any] | None,
    ) -> Made:
        """Make a run, or find it made; measure it as it was written."""
        queries = len(self._collection.queries)
        slot = self._folder.slot("run", makes, ".jsonl")
        about = slot.record
        if about is None:
            hits, seconds = make()
            write_run(hits, slot.path, format="jsonl", name="tokret")
            about = slot.finish(
                {
                    "seconds": round(seconds, 4),
                    "queries_per_second": round(queries / max(seconds, 1e-9), 2),
                    "threads": self._threads if what == "search" else 1,
                    "k": self._experiment.k,
                    **self._stamp,
                }
            )
        reused = slot.record is not None
        self._tell(what, system.name, queries, queries, reused=reused)
        report = evaluate(
            read_run(slot.path),
            self._collection.qrels,
            self._experiment.measures,
            remove_self=self._collection.self_matches.drop,
            check_ids=False,  # one collection; that it holds judged documents is checked
        )
        return Made(system, slot.path, about, index, report, reused)

    def _index(self, plan: IndexPlan) -> tuple[Path, dict[str, Any]]:
        """Place and record of the plan's index, which is built if need be."""
        if plan in self._indexes:
            return self._indexes[plan]
        self._number += 1
        model = self._model(plan)
        identity = None if model is None else vars(model.identity)
        makes = {"corpus": self._corpus, **vars(plan), "model": identity}
        slot = self._folder.slot("index", makes)
        about = slot.record or slot.finish(self._build(plan, model, slot.path))
        documents = about["info"]["documents"]
        self._tell("index", plan.backend, documents, documents, reused=slot.record is not None)
        self._indexes[plan] = slot.path, about
        return self._indexes[plan]

    def _build(self, plan: IndexPlan, model: Encoder | None, path: Path) -> dict[str, Any]:
        resumed = path.exists() and not self._folder.restart
        spent = path.with_suffix(".seconds")
        before = _seconds(spent) if resumed else 0.0
        total = next((about["info"]["documents"] for _, about in self._indexes.values()), None)

        def tell(p: Progress) -> None:
            self._tell("index", plan.backend, p.documents, p.total or total, build=p)

        self._tell("index", plan.backend, 0, total)
        start = time.perf_counter()
        try:
            added = build(
                path,
                self._documents(),
                encoder=model,
                backend=plan.backend,
                long=plan.long,
                max_tokens=plan.max_tokens,
                overlap=plan.overlap,
                normalize=plan.normalize,
                restart=self._folder.restart,
                overwrite=True,  # what is finished but has no record was cut off at the very end
                progress=tell,
                stop=self._stop,
            )
        except Interrupted:
            spent.write_text(f"{before + time.perf_counter() - start:.3f}\n")
            raise
        seconds = before + time.perf_counter() - start
        spent.unlink(missing_ok=True)
        with Index.open(path, encoder=model) as index:
            info = {k: v for k, v in index.info().items() if k != "path"}
        return {
            "seconds": round(seconds, 3),
            "resumed": resumed,  # if by a kill, the seconds of that call are not among these
            "added": vars(added),
            "info": info,
            **self._stamp,
        }

    def _model(self, plan: IndexPlan) -> Encoder | None:
        if plan.model is None:
            return None
        if plan.model not in self._models:
            self._models[plan.model] = encoders.build(plan.model)
        return self._models[plan.model]

    def _documents(self) -> Iterator[Document]:
        return islice(self._collection.documents(), self._experiment.limit_documents)

    @property
    def _stamp(self) -> dict[str, Any]:
        return {"date": now(), "command": self._command, "environment": self._environment}

    @property
    def _depth(self) -> int:
        """Results asked for; one more where the query itself will be dropped."""
        return self._experiment.k + self._collection.self_matches.drop

    def _check_judged(self, index: Index) -> None:
        """Refuse a corpus in which no relevant document is: every number would be 0."""
        relevant = (
            doc_id
            for grades in self._collection.qrels.values()
            for doc_id, grade in grades.items()
            if grade >= 1
        )
        if not any(doc_id in index for doc_id in relevant):
            limit = self._experiment.limit_documents
            why = f" within limit_documents = {limit}" if limit else ""
            raise InputError(
                f"{self._collection.name}: no relevant document of the judgements is in the "
                f"corpus{why}; do they belong together?"
            )

    def _check_stop(self) -> None:
        if self._stop is not None and self._stop():
            raise Interrupted(
                f"Stopped at step {self._number} of {self._steps}; what was finished is kept in "
                f"{self._folder.path}. Run the same command again to go on."
            )

    def _tell(
        self,
        what: str,
        name: str,
        done: int,
        total: int | None,
        *,
        reused: bool = False,
        build: Progress | None = None,
    ) -> None:
        if self._progress is not None:
            self._progress(Step(self._number, self._steps, what, name, done, total, reused, build))


def _seconds(path: Path) -> float:
    """Time that earlier calls, stopped on request, spent on a step."""
    try:
        return float(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0.0


def _load(experiment: Experiment) -> Collection:
    source = sample_path() if experiment.collection == SAMPLE else experiment.collection
    return load_collection(source, experiment.split, drop_self=experiment.remove_self)


def _limited(experiment: Experiment, collection: Collection) -> Collection:
    if experiment.limit_queries is None:
        return collection
    queries = collection.queries[: experiment.limit_queries]
    return Collection(
        collection.name,
        collection.source,
        collection.split,
        queries,
        {query.query_id: collection.qrels[query.query_id] for query in queries},
        collection.self_matches,
    )
