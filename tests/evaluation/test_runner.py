import json

import pytest
from filelock import FileLock

import tokret
from tokret.collections import read_run
from tokret.errors import InputError, LockedError, UsageError
from tokret.evaluation import evaluate, runner
from tokret.evaluation.experiment import Expected, Experiment, Fused, IndexPlan, Searched
from tokret.evaluation.runner import run_experiment
from tokret.indexes import Interrupted

DOCUMENTS = {
    "d1": "wings in supersonic flow",
    "d2": "heat transfer in slender bodies",
    "d3": "boundary layer on a flat plate",
    "d4": "buckling of thin shells under pressure",
    "d5": "supersonic boundary layer heat transfer",
    "d6": "propeller slipstream and wings",
}
QUERIES = {"q1": "supersonic wings", "q2": "heat transfer", "q3": "thin shells", "q4": "plate"}
QRELS = {"q1": {"d1": 2, "d6": 1}, "q2": {"d2": 1, "d5": 1}, "q3": {"d4": 1}, "q4": {"d3": 1}}
TOY = IndexPlan("exact", "toy")
SYSTEMS = (
    Searched("BM25", IndexPlan("bm25", None)),
    Fused("RRF", ("BM25", "XTR")),
    Searched("MaxSim", TOY),
    Searched("XTR", TOY, "xtr(k_prime=4)"),
)


def write_collection(folder, documents=DOCUMENTS, queries=QUERIES, qrels=QRELS):
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", documents), ("queries", queries)):
        lines = [json.dumps({"_id": i, "text": text}) for i, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    rows = [f"{q}\t{d}\t{grade}" for q, docs in qrels.items() for d, grade in docs.items()]
    header = "query-id\tcorpus-id\tscore"
    (folder / "qrels" / "test.tsv").write_text("\n".join([header, *rows]) + "\n")
    return str(folder)


@pytest.fixture
def collection(tmp_path):
    return write_collection(tmp_path / "aero")


@pytest.fixture
def experiment(collection):
    return Experiment("aero", collection, SYSTEMS, ("nDCG@10", "P@1"), k=10)


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


def stages(steps):
    """What was told of each step, once."""
    return list(dict.fromkeys((s.number, s.what, s.name, s.reused) for s in steps))


def numbers(result):
    return {(n["system"], n["measure"]): n["value"] for n in result.record["numbers"]}


# What comes out


def test_rows_stand_in_the_order_of_the_file_with_every_measure(experiment, work):
    result = run_experiment(experiment, work)
    assert [row["system"] for row in result.rows] == ["BM25", "RRF", "MaxSim", "XTR"]
    for row in result.rows:
        assert row["P@1"] == 1.0 and 0.8 < row["nDCG@10"] <= 1.0
        assert row["search_seconds"] >= 0 and row["queries_per_second"] > 0
    assert result.rows[1]["index_seconds"] is None


def test_a_value_is_that_of_the_run_that_was_kept(experiment, work):
    result = run_experiment(experiment, work)
    for row in result.rows:
        run = read_run(result.runs[row["system"]])
        assert set(run.ranking) == set(QUERIES) and run.ties == 0
        assert evaluate(run, QRELS, "nDCG@10")["nDCG@10"] == row["nDCG@10"]


def test_xtr_that_retrieves_every_token_is_maxsim(experiment, collection, work):
    all_tokens = Searched("XTR", TOY, "xtr(k_prime=1000)")
    wide = Experiment("aero", collection, (SYSTEMS[2], all_tokens), ("nDCG@10",), k=10)
    result = run_experiment(wide, work)
    runs = [read_run(result.runs[name]).ranking for name in ("MaxSim", "XTR")]
    assert [list(docs) for docs in runs[0].values()] == [list(docs) for docs in runs[1].values()]


def test_every_number_can_be_quoted_alone(experiment, work):
    record = run_experiment(experiment, work, command="tokret evaluate aero.toml").record
    assert len(record["numbers"]) == len(SYSTEMS) * 2
    for number in record["numbers"]:
        assert {"measure", "value", "system", "backend", "model", "scorer", "k"} <= set(number)
        assert number["collection"] == "aero" and number["split"] == "test"
        assert number["queries"] == 4 and "4 judged queries" in number["policy"]
        assert number["command"] == "tokret evaluate aero.toml"
        assert number["date"].endswith("Z") and number["seconds"] >= 0
        environment = record["environments"][number["environment"]]
        assert environment["versions"]["tokret"] and environment["machine"]["cpu"]
    by_system = {number["system"]: number for number in record["numbers"]}
    assert by_system["XTR"]["model"]["spec"] == "toy"
    assert len(by_system["XTR"]["model"]["sha256"]) == 64
    assert (by_system["XTR"]["backend"], by_system["XTR"]["scorer"]) == ("exact", "xtr(k_prime=4)")
    assert by_system["RRF"]["fuse"] == ["BM25", "XTR"] and by_system["RRF"]["method"] == "rrf"
    assert by_system["BM25"]["model"] is None


def test_a_record_goes_through_json_and_has_its_form(experiment, work):
    record = run_experiment(experiment, work).record
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert list(record) == [
        *("schema_version", "kind", "experiment", "collection", "date", "command"),
        *("environment", "seconds", "systems", "numbers", "environments", "expected"),
    ]
    assert (record["schema_version"], record["kind"]) == (1, "tokret.experiment")
    assert record["collection"]["queries"] == 4 and record["collection"]["judgements"] == 6
    assert len(record["collection"]["corpus"]["sha256"]) == 64
    system = record["systems"][2]
    assert system["index"]["info"]["documents"] == 6
    assert system["index"]["added"]["documents"] == 6
    assert system["policy"]["n_missing"] == 0


def test_expectations_are_checked_and_told(collection, work):
    experiment = Experiment(
        "aero",
        collection,
        SYSTEMS[:1],
        ("P@1",),
        k=10,
        expected=(
            Expected("BM25", "P@1", value=1.0, tolerance=0.01),
            Expected("BM25", "P@1", max=0.5),
        ),
    )
    result = run_experiment(experiment, work)
    assert [check.holds for check in result.checked] == [True, False]
    assert not result.passed
    assert result.record["expected"][1] == {
        "system": "BM25",
        "measure": "P@1",
        "expected": "≤ 0.5",
        "got": 1.0,
        "holds": False,
    }


# What is done is not done again


def test_systems_with_the_same_index_share_it(experiment, work):
    steps = []
    run_experiment(experiment, work, progress=steps.append)
    assert [name for _, what, name, _ in stages(steps) if what == "index"] == ["bm25", "exact"]
    assert len(list(work.glob("index-*/"))) == 2
    assert {step.steps for step in steps} == {6} and max(step.number for step in steps) == 6


def test_a_second_call_computes_nothing_and_says_the_same(experiment, work, monkeypatch):
    first = run_experiment(experiment, work)
    monkeypatch.setattr(runner, "build", None)
    monkeypatch.setattr(runner.Index, "search_many", None)
    steps = []
    again = run_experiment(experiment, work, progress=steps.append)
    assert all(step.reused for step in steps) and len(steps) == 6
    assert numbers(again) == numbers(first)
    assert again.record["systems"] == [
        {**system, "run": {**system["run"], "reused": True}} for system in first.record["systems"]
    ]


def test_a_system_more_costs_only_itself(experiment, collection, work):
    run_experiment(experiment, work)
    more = (*SYSTEMS, Searched("XTR zero", TOY, 'xtr(k_prime=4, impute="zero")'))
    steps = []
    run_experiment(
        Experiment("aero", collection, more, ("nDCG@10",), k=10), work, progress=steps.append
    )
    assert {s.name for s in steps if not s.reused} == {"XTR zero"}


@pytest.mark.parametrize("at", range(6))
def test_stopped_anywhere_the_same_call_goes_on(experiment, tmp_path, at):
    whole = run_experiment(experiment, tmp_path / "whole")
    asked = 0

    def stop():
        nonlocal asked
        asked += 1
        return asked > at

    steps = []
    stopped = 0
    while True:
        try:
            result = run_experiment(experiment, tmp_path / "work", stop=stop, progress=steps.append)
            break
        except Interrupted as error:
            stopped += 1
            assert "again" in str(error)
            asked = -100
    assert numbers(result) == numbers(whole)
    assert stopped == 1
    done = [(s.what, s.name) for s in steps if not s.reused and s.done == s.total]
    assert len(set(done)) == 6


def test_the_seconds_of_a_stopped_build_are_added_up(collection, work):
    experiment = Experiment("aero", collection, SYSTEMS[2:3], ("P@1",), k=10)
    with pytest.raises(Interrupted):
        run_experiment(experiment, work, stop=lambda: True)
    (spent,) = work.glob("*.seconds")
    assert 0 < float(spent.read_text()) < 60
    spent.write_text("1000")
    index = run_experiment(experiment, work).record["systems"][0]["index"]
    assert index["resumed"] and 1000 < index["seconds"] < 1060
    assert not spent.exists()


def test_a_kill_between_run_and_record_repeats_that_step_alone(experiment, work):
    first = run_experiment(experiment, work)
    name = first.runs["XTR"]
    name.with_suffix(".json").unlink()
    index = next(path for path in work.glob("index-*/") if "exact" in _record(path)["backend"])
    index.with_suffix(".json").write_text('{"cut of')
    steps = []
    again = run_experiment(experiment, work, progress=steps.append)
    assert {s.name for s in steps if not s.reused} == {"exact", "XTR"}
    assert numbers(again) == numbers(first)


def _record(path):
    return json.loads(path.with_suffix(".json").read_text())["made_of"]


def test_another_corpus_makes_other_indexes(experiment, collection, work, tmp_path):
    run_experiment(experiment, work)
    other = write_collection(tmp_path / "other" / "aero", DOCUMENTS | {"d7": "more wings"})
    run_experiment(Experiment("aero", other, SYSTEMS, ("nDCG@10",), k=10), work)
    assert len(list(work.glob("index-*/"))) == 4


def test_other_queries_make_other_runs_on_the_same_index(experiment, collection, work):
    few = Experiment("aero", collection, SYSTEMS, ("P@1",), k=10, limit_queries=2)
    run_experiment(few, work)
    steps = []
    result = run_experiment(experiment, work, progress=steps.append)
    assert {s.what for s in steps if s.reused} == {"index"}
    assert all(row["P@1"] == 1.0 for row in result.rows)


def test_a_corpus_that_only_moved_makes_none(experiment, work, tmp_path):
    run_experiment(experiment, work)
    moved = write_collection(tmp_path / "elsewhere" / "aero")
    steps = []
    run_experiment(Experiment("aero", moved, SYSTEMS, ("P@1",), k=10), work, progress=steps.append)
    assert all(step.reused for step in steps)


def test_another_version_of_tokret_makes_everything_anew(experiment, work, monkeypatch):
    run_experiment(experiment, work)
    monkeypatch.setattr(tokret, "__version__", "0.0.1")
    steps = []
    run_experiment(experiment, work, progress=steps.append)
    assert not any(step.reused for step in steps)


def test_restart_makes_everything_anew(experiment, work):
    run_experiment(experiment, work)
    steps = []
    run_experiment(experiment, work, restart=True, progress=steps.append)
    assert not any(step.reused for step in steps)


def test_a_folder_in_use_is_refused(experiment, work):
    work.mkdir()
    with FileLock(work / "experiment.lock"), pytest.raises(LockedError, match="Another process"):
        run_experiment(experiment, work)


# Policies


def test_queries_of_arguana_do_not_find_themselves(tmp_path, work):
    documents = {"a": "wings and more wings", "b": "wings", "c": "more wings", "d": "shells"}
    queries = {"a": "wings and more wings"}
    folder = write_collection(tmp_path / "arguana", documents, queries, {"a": {"b": 1, "c": 1}})
    systems = (SYSTEMS[0], SYSTEMS[2], Fused("RRF", ("BM25", "MaxSim")))
    dropped = Experiment("x", folder, systems, ("P@1", "R@2"), k=2)
    for row in run_experiment(dropped, work).rows:
        assert (row["P@1"], row["R@2"]) == (1.0, 1.0)
    kept = Experiment("x", folder, systems, ("P@1",), k=2, remove_self=False)
    result = run_experiment(kept, work)
    assert {row["P@1"] for row in result.rows} == {0.0}
    assert "kept" in result.record["collection"]["self_matches"]


def test_a_query_that_finds_nothing_counts_zero(tmp_path, work):
    folder = write_collection(tmp_path / "aero", queries={**QUERIES, "q3": "zeppelin"})
    experiment = Experiment("aero", folder, SYSTEMS[:1], ("P@1",), k=10)
    result = run_experiment(experiment, work)
    assert result.rows[0]["P@1"] == 0.75
    assert result.record["systems"][0]["policy"]["n_missing"] == 1


def test_limits_keep_the_first_queries_and_documents(collection, work):
    limits = {"limit_queries": 2, "limit_documents": 5}
    experiment = Experiment("aero", collection, SYSTEMS, ("P@1",), k=10, **limits)
    record = run_experiment(experiment, work).record
    assert record["collection"]["queries"] == 2
    assert record["systems"][0]["index"]["info"]["documents"] == 5
    assert {n["queries"] for n in record["numbers"]} == {2}


def test_a_corpus_without_any_relevant_document_is_refused(tmp_path, work):
    renamed = {f"doc-{i}": text for i, text in DOCUMENTS.items()}
    folder = write_collection(tmp_path / "aero", renamed)
    with pytest.raises(InputError, match="no relevant document of the judgements"):
        run_experiment(Experiment("aero", folder, SYSTEMS, ("P@1",), k=10), work)


def test_an_encoder_may_be_given_by_name(collection, work, toy):
    plan = IndexPlan("exact", "mine")
    experiment = Experiment("aero", collection, (Searched("Mine", plan),), ("P@1",), k=10)
    result = run_experiment(experiment, work, models={"mine": toy})
    assert result.record["numbers"][0]["model"]["spec"] == "toy"
    with pytest.raises(UsageError, match="No encoder 'mine'"):
        run_experiment(experiment, work / "other")
