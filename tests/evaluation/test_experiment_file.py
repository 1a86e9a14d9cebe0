import pytest

from tokret.errors import InputError, UsageError
from tokret.evaluation.experiment import Expected, Experiment, Fused, IndexPlan, Searched
from tokret.evaluation.experiment_file import read_experiment

WHOLE = """
name = "small"
description = "A page of text."
collection = "sample"
split = "test"
measures = ["NDCG@10", "R@100"]
k = 200
limit_queries = 20
limit_documents = 50
remove_self = false

[defaults]
model = "toy"
scorer = "maxsim"
long = "truncate"
max_tokens = 12

[[system]]
name = "BM25"
backend = "bm25"

[[system]]
name = "MaxSim"
backend = 'exact(dtype="fp16")'

[[system]]
name = "XTR"
backend = 'exact(dtype="int8")'
scorer = "xtr(k_prime=100)"
model = "toy(dim=8)"

[[system]]
name = "RRF"
fuse = ["BM25", "XTR"]
method = "rrf(k=10)"

[expected.BM25]
"nDCG@10" = { value = 0.6, tolerance = 0.01 }

[expected.XTR]
"ndcg_cut.10" = { near = "MaxSim", tolerance = 0.02, min = 0.1 }
"""
LEAST = """
collection = "sample"
[[system]]
name = "BM25"
backend = "bm25"
"""


@pytest.fixture
def read(tmp_path):
    def read(text, **options):
        path = tmp_path / "small.toml"
        path.write_text(text)
        return read_experiment(path, **options)

    return read


def test_a_whole_file_becomes_the_experiment_it_describes(read):
    toy = {"model": "toy", "long": "truncate", "max_tokens": 12}
    assert read(WHOLE) == Experiment(
        name="small",
        description="A page of text.",
        collection="sample",
        split="test",
        measures=("nDCG@10", "R@100"),
        k=200,
        limit_queries=20,
        limit_documents=50,
        remove_self=False,
        systems=(
            Searched("BM25", IndexPlan("bm25", None)),
            Searched("MaxSim", IndexPlan("exact", **toy), "maxsim"),
            Searched(
                "XTR",
                IndexPlan('exact(dtype="int8")', **{**toy, "model": "toy(dim=8)"}),
                "xtr(k_prime=100)",
            ),
            Fused("RRF", ("BM25", "XTR"), "rrf(k=10)"),
        ),
        expected=(
            Expected("BM25", "nDCG@10", value=0.6, tolerance=0.01),
            Expected("XTR", "nDCG@10", near="MaxSim", tolerance=0.02, min=0.1),
        ),
    )


def test_a_short_file_is_filled_with_the_defaults(read):
    experiment = read(LEAST)
    assert (experiment.name, experiment.split, experiment.k) == ("small", "test", 1000)
    assert experiment.measures == ("nDCG@10", "R@100")
    assert experiment.remove_self is None and not experiment.expected


def test_a_folder_is_found_from_where_the_file_lies(read, tmp_path):
    folder = LEAST.replace('"sample"', '"data/scifact"')
    assert read(folder).collection == str(tmp_path / "data/scifact")
    assert read(folder, collection="elsewhere").collection == "elsewhere"


def test_an_ir_datasets_id_stays_as_it_is(read):
    assert read(LEAST.replace('"sample"', '"beir/scifact"')).collection == "beir/scifact"


def test_systems_come_after_those_they_fuse(read):
    text = WHOLE + '[[system]]\nname = "All"\nfuse = ["RRF", "MaxSim"]\n'
    text = text.replace("[expected", "#[expected").replace('"nDCG', '#"nDCG').replace('"ndcg', '#"')
    names = [system.name for system in read(text).order()]
    assert sorted(names) == ["All", "BM25", "MaxSim", "RRF", "XTR"]
    assert names.index("All") > names.index("RRF") > names.index("XTR")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("k = 200", "kk = 200", r"no key 'kk'\. Did you mean 'k'"),
        ("k = 200", "k = '200'", "k must be a whole number, got '200'"),
        ("k = 200", "k = true", "k must be a whole number, got True"),
        ("k = 200", "k = 0", "k must be at least 1"),
        ("k = 200", "k = 50", "R@100 needs 100 results a query; k is 50"),
        ('name = "small"', 'name = "../small"', "must be letters"),
        ("limit_queries = 20", "limit_queries = 0", "limit_queries must be at least 1"),
        ("remove_self = false", "remove_self = 'no'", "remove_self must be true or false"),
        ('["NDCG@10", "R@100"]', '"nDCG@10"', "measures must be a list of texts"),
        ('["NDCG@10", "R@100"]', '["nDGC@10"]', "Did you mean"),
        ('["NDCG@10", "R@100"]', '["R@100"]', "'nDCG@10'.*not among R@100"),
        ('collection = "sample"', "", "names no collection"),
        ('collection = "sample"', "collection = 3", "collection must be a text"),
        ("[defaults]", "[default]", "Did you mean 'defaults'"),
        ("max_tokens = 12", "max_token = 12", "defaults has no key 'max_token'"),
        ("max_tokens = 12", "max_tokens = 2", "max_tokens must be at least 4"),
        ('long = "truncate"', 'long = "cut"', "long must be 'split' or 'truncate'"),
        ('backend = "bm25"', "", "System 'BM25': it needs a backend: bm25, exact"),
        ('backend = "bm25"', 'backend = "bm52"', "System 'BM25'.*Did you mean 'bm25'"),
        ('backend = "bm25"', 'backend = "bm25"\nmodel = "toy"', "bm25 reads text and has no model"),
        ('backend = "bm25"', 'backend = "bm25"\nscorer = "maxsim"', "has no scorer"),
        ('backend = "bm25"', 'backend = "bm25"\nscoring = 1', "'BM25' has no key 'scoring'"),
        ("xtr(k_prime=100)", "xtr(k_prim=100)", "System 'XTR'.*has no 'k_prim'"),
        ("xtr(k_prime=100)", "xrt", "Did you mean 'xtr'"),
        ("toy(dim=8)", "toy(dim=", "Cannot read 'toy"),
        ("rrf(k=10)", "rff", "Did you mean 'rrf'"),
        ('fuse = ["BM25", "XTR"]', 'fuse = ["BM25", "XRT"]', "no system. Did you mean 'XTR'"),
        ('fuse = ["BM25", "XTR"]', 'fuse = ["BM25"]', "fewer than two systems"),
        ('fuse = ["BM25", "XTR"]', 'fuse = ["XTR", "XTR"]', "a system with itself"),
        ('fuse = ["BM25", "XTR"]', 'fuse = ["BM25", "RRF"]', "in a circle: RRF -> RRF"),
        ('fuse = ["BM25", "XTR"]', 'fuse = "BM25"', "fuse must be a list of texts"),
        ('fuse = ["BM25", "XTR"]', 'backend = "bm25"', "fuse must be a list"),
        ('name = "MaxSim"', 'name = "BM25"', "Two systems are named 'BM25'"),
        ('name = "MaxSim"', "", "system 2 needs name"),
        ("[expected.BM25]", "[expected.BM52]", "'BM52' is no system. Did you mean 'BM25'"),
        ('near = "MaxSim"', 'near = "MaxSum"', "'MaxSum' is no system. Did you mean 'MaxSim'"),
        ("tolerance = 0.01", "tolerence = 0.01", "Did you mean 'tolerance'"),
        ("value = 0.6, tolerance = 0.01", "value = 0.6", "a tolerance above 0 goes with"),
        ("value = 0.6, tolerance = 0.01", "tolerance = 0.01", "needs value or near"),
        ("value = 0.6, tolerance = 0.01", "value = nan, tolerance = 0.01", "must be a number"),
        ("value = 0.6, tolerance = 0.01", "min = '0'", "min must be a number, got '0'"),
    ],
)
def test_what_a_file_gets_wrong_is_named_with_the_file(read, old, new, said):
    assert WHOLE.count(old) >= 1
    with pytest.raises(UsageError, match=f"(?s)small.toml: .*{said}"):
        read(WHOLE.replace(old, new, 1))


def test_systems_must_be_tables_in_a_list(read):
    with pytest.raises(UsageError, match=r"\[\[system\]\]"):
        read('collection = "sample"\n[system]\nname = "BM25"\nbackend = "bm25"\n')
    with pytest.raises(UsageError, match="It has no system"):
        read('collection = "sample"\n')


def test_a_longer_circle_is_shown_whole(read):
    extra = "".join(
        f'[[system]]\nname = "{a}"\nfuse = ["{b}", "BM25"]\n' for a, b in ("AB", "BC", "CA")
    )
    with pytest.raises(UsageError, match=r"circle: . -> . -> . -> .\."):
        read(LEAST + extra)


def test_a_file_that_is_not_toml_is_an_input_error_with_its_line(read, tmp_path):
    with pytest.raises(InputError, match=r"small.toml: not TOML: .*line 2"):
        read('name = "x"\nk = = 3\n')
    with pytest.raises(InputError, match=r"absent\.toml: cannot be read"):
        read_experiment(tmp_path / "absent.toml")
    with pytest.raises(InputError, match="cannot be read"):
        read_experiment(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'name = "caf\xe9"\n')
    with pytest.raises(InputError, match="not UTF-8"):
        read_experiment(tmp_path / "latin.toml")
    (tmp_path / "huge.toml").write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(InputError, match="longer than"):
        read_experiment(tmp_path / "huge.toml")
    (tmp_path / "deep.toml").write_text("k = " + "[" * 100_000)
    with pytest.raises(InputError, match=r"deep\.toml"):
        read_experiment(tmp_path / "deep.toml")


@pytest.mark.parametrize(
    ("expected", "got", "holds"),
    [
        (Expected("a", "AP", value=0.5, tolerance=0.01), 0.51, True),
        (Expected("a", "AP", value=0.5, tolerance=0.01), 0.5101, False),
        (Expected("a", "AP", min=0.5), 0.5, True),
        (Expected("a", "AP", min=0.5), 0.4999, False),
        (Expected("a", "AP", max=0.5), 0.5001, False),
        (Expected("a", "AP", near="b", tolerance=0.1), 0.75, True),
        (Expected("a", "AP", near="b", tolerance=0.1), 0.65, False),
        (Expected("a", "AP", near="b", tolerance=0.1, max=0.7), 0.75, False),
    ],
)
def test_an_expectation_holds_within_its_bounds(expected, got, holds):
    assert expected.holds(got, {"a": {"AP": got}, "b": {"AP": 0.8}}) is holds


def test_an_expectation_prints_in_few_words():
    assert str(Expected("a", "AP", value=0.679, tolerance=0.005)) == "0.679 ± 0.005"
    assert str(Expected("a", "AP", near="MaxSim", tolerance=0.01)) == "MaxSim ± 0.01"
    assert str(Expected("a", "AP", min=0.7, max=0.8)) == "≥ 0.7 and ≤ 0.8"
