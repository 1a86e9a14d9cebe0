"""Queries and judgements are read from every common layout, and each is there once."""

import gzip
import json

import ir_measures
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tokret.collections import read_qrels, read_queries
from tokret.errors import InputError
from tokret.types import Query

QUERIES = [Query("q1", "what is old?"), Query("2", "")]
PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def fault(read, path):
    with pytest.raises(InputError) as caught:
        read(path)
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "q.jsonl",
            '{"_id": "q1", "text": "what is old?", "metadata": {}}\n{"_id": 2, "text": ""}',
        ),
        ("q.jsonl", '{"qid": "q1", "query": "what is old?"}\r\n{"query_id": "2", "query": ""}\r\n'),
        ("q.json", '[{"id": "q1", "text": "what is old?"}, {"id": "2", "text": ""}]'),
        ("q.tsv", "q1\twhat is old?\n2\t\n"),
        ("q.tsv", "\ufeffqid\tquery\nq1\twhat is old?\n2\t\n"),
        ("topics.txt", "q1\twhat is old?\n2\t\n"),
    ],
)
def test_queries_of_every_layout_are_read(tmp_path, name, content, packed):
    path = write(tmp_path / (name + packed), PACK[packed](content.encode()))
    assert read_queries(path) == QUERIES


def test_a_folder_leads_to_its_queries(tmp_path):
    write(tmp_path / "queries.tsv.gz", gzip.compress(b"q1\twhat is old?\n2\t\n"))
    assert read_queries(tmp_path) == QUERIES


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("q.tsv", "1\ta\n2\tb\n1\tc\n", "q.tsv:3: query id '1' was already at "),
        ("q.jsonl", '{"id": 1, "text": "a"}\n{"id": "1", "text": "a"}', "q.jsonl:2: query id '1'"),
        ("q.tsv", "1\ta\n2\n", "q.tsv:2: 1 tab-separated fields; wanted 2"),
        ("q.jsonl", '{"id": "1", "text": "a"}\n{"id": "2"}', "q.jsonl:2: no text"),
        ("q.jsonl", '{"id": "1", "text": "\\ud800"}', "q.jsonl:1: half a surrogate pair"),
        ("q.tsv", b"1\ta\n2\t\xff\n", "q.tsv:2: byte 3 of the line is not UTF-8"),
        ("q.tsv", "", "q.tsv: no queries in it"),
        ("q.txt", "a question\n", "q.txt:1: neither JSON nor tab-separated"),
    ],
)
def test_a_bad_query_is_named(tmp_path, name, content, says):
    assert fault(read_queries, write(tmp_path / name, content)).startswith(says)


def test_a_folder_without_queries_says_what_was_looked_for(tmp_path):
    write(tmp_path / "query.jsonl", "{}")
    with pytest.raises(InputError, match=r"queries\.jsonl: no such file.*'query\.jsonl'"):
        read_queries(tmp_path)


BEIR = "query-id\tcorpus-id\tscore\nq1\td 1\t2\nq1\td2\t0\n2\td 1\t-1\n"


@pytest.mark.parametrize("packed", PACK)
def test_judgements_of_beir_keep_ids_with_blanks(tmp_path, packed):
    path = write(tmp_path / f"test.tsv{packed}", PACK[packed](BEIR.encode()))
    assert read_qrels(path) == {"q1": {"d 1": 2, "d2": 0}, "2": {"d 1": -1}}


@pytest.mark.parametrize(
    "content",
    [
        "q1 0 d1 2\nq1 0 d2 0\n",
        "q1\t0\td1\t2\nq1\t0\td2\t0\r\n\r\n",
        "  q1  0   d1 2 \nq1 Q0\td2 0",
        "q1\td1\t2\nq1\td2\t0\n",
        "q1 d1 2\nq1 d2 0\n",
        "\ufeffquery-id\tcorpus-id\tscore\r\nq1\td1\t2\r\nq1\td2\t0\r\n",
        "qid\titer\tdocno\trel\nq1\t0\td1\t2\nq1\t0\td2\t0\n",
    ],
)
def test_judgements_of_three_or_four_columns_are_read(tmp_path, content):
    assert read_qrels(write(tmp_path / "q", content)) == {"q1": {"d1": 2, "d2": 0}}


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ("q1 0 d1 2", "'q1' and document 'd1' are judged twice (2, then 2)"),
        ("q1 0 d1 1", "judged twice (2, then 1)"),
        ("q1 0 d2 1.0", "grade '1.0'; wanted a whole number"),
        ("q1 0 d2 1_0", "grade '1_0'"),
        ("q1 0 d2 yes", "grade 'yes'"),
        ("q1 d2 1", "expected 4 fields as in the first line, got 3"),
        ("q1 0 d2 1 x", "expected 4 fields as in the first line, got 5"),
        ("q1", "got 1"),
        ("q1 0 d2 " + "9" * 5000, "grade '999"),
        (b"q1 0 \xff 1", "byte 6 of the line is not UTF-8"),
    ],
)
def test_a_bad_judgement_is_named(tmp_path, second, says):
    second = second if isinstance(second, bytes) else second.encode()
    message = fault(read_qrels, write(tmp_path / "q", b"q1 0 d1 2\n" + second + b"\n"))
    assert message.startswith("q:2: ") and says in message


def test_a_header_twice_is_no_judgement(tmp_path):
    header = "query-id\tcorpus-id\tscore\n"
    assert "q:2: grade 'score'" in fault(read_qrels, write(tmp_path / "q", header * 2))


@pytest.mark.parametrize("content", ["", "\n", "query-id\tcorpus-id\tscore\n"])
def test_a_file_without_judgements_says_so(tmp_path, content):
    assert "no judgements in it" in fault(read_qrels, write(tmp_path / "q", content))


words = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="\ufeff"),
    min_size=1,
)
judged = st.dictionaries(
    words, st.dictionaries(words, st.integers(-2, 4), min_size=1), min_size=1, max_size=5
)


@given(judged)
@pytest.mark.parametrize("layout", ["beir", "trec", "bare"])
def test_judgements_are_read_exactly(tmp_path_factory, layout, qrels):
    form = {"beir": "{}\t{}\t{}\n", "trec": "{} 0 {} {}\n", "bare": "{}\t{}\t{}\n"}[layout]
    lines = [form.format(q, d, grade) for q, found in qrels.items() for d, grade in found.items()]
    header = "query-id\tcorpus-id\tscore\n" if layout == "beir" else ""
    path = write(tmp_path_factory.mktemp("q") / "q", header + "".join(lines))
    assert read_qrels(path) == qrels
    if layout == "trec":
        seen = {}
        for row in ir_measures.read_trec_qrels(str(path)):
            seen.setdefault(row.query_id, {})[row.doc_id] = row.relevance
        assert seen == qrels


@given(st.dictionaries(words, st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_queries_are_read_exactly(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("q") / "q.jsonl"
    write(path, "".join(json.dumps({"_id": q, "text": t}) + "\n" for q, t in texts.items()))
    assert read_queries(path) == [Query(q, t) for q, t in texts.items()]
