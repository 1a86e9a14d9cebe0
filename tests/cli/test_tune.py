"""`tokret search --tune`: options of searching for one call."""

import pytest

pytest.importorskip("faiss")

DOCS = '{"id": "a", "text": "a blue whale"}\n{"id": "b", "text": "green tea from hills"}\n'


@pytest.fixture
def index(tokret, tmp_path):
    (tmp_path / "docs.jsonl").write_text(DOCS)
    folder = str(tmp_path / "index")
    backend = 'faiss(factory="SQ8")'
    made = tokret(
        "index", str(tmp_path / "docs.jsonl"), "-o", folder, "-b", backend, "--model", "toy"
    )
    assert made.exit_code == 0, made.stderr
    return folder


def test_options_of_searching_hold_for_one_call(tokret, index):
    plain = tokret("search", index, "whale", "--format", "jsonl")
    tuned = tokret("search", index, "whale", "--format", "jsonl", "--tune", "refine=2, nprobe=4")
    assert plain.exit_code == tuned.exit_code == 0
    assert '"doc_id": "a"' in tuned.stdout and tuned.stdout != plain.stdout  # true similarities


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ("nprobe 4", 2, "Cannot read 'tune(nprobe 4)'"),
        ("dtype='int8'", 2, "no option of searching 'dtype'"),
        ("device='cuda:99'", 5, "device='cuda:99' is not there"),
    ],
)
def test_options_that_cannot_be_had_are_refused(tokret, index, options, code, said):
    result = tokret("search", index, "whale", "--tune", options)
    assert result.exit_code == code and said in result.stderr
