"""Corpora of every layout are read alike, and every fault is named with its place."""

import gzip
import io
import json
import os
import random

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from tokret.collections import CorpusStats, read_corpus
from tokret.errors import InputError, TokretError, UsageError
from tokret.types import NO_FIELDS, Document

DOCS = [Document("1", "Kraków is old."), Document("a/b", "naïve 🦊 text", "A title")]
PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}

text = st.text(st.characters(exclude_categories=["Cs"]))
ids = text.filter(bool)
documents = st.lists(
    st.builds(Document, ids, text, text, st.just(NO_FIELDS)), min_size=1, max_size=8
)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(docs, **names):
    key, body = names.get("id", "_id"), names.get("text", "text")
    return "".join(json.dumps({key: d.doc_id, "title": d.title, body: d.text}) + "\n" for d in docs)


def read(source, **policies):
    return list(read_corpus(source, **policies))


def fault(source, **policies):
    with pytest.raises(InputError) as caught:
        read(source, **policies)
    return str(caught.value)


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("key", ["_id", "id", "docid", "docno"])
@pytest.mark.parametrize("body", ["contents", "text", "segment", "passage", "body"])
def test_every_common_field_name_is_read_without_flags(tmp_path, key, body, packed):
    path = write(
        tmp_path / f"c.jsonl{packed}", PACK[packed](jsonl(DOCS, id=key, text=body).encode())
    )
    assert read(path) == DOCS


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", jsonl(DOCS)),
        ("x.json", json.dumps([d._asdict() | {"id": d.doc_id} for d in DOCS])),
        ("x.json", "\n".join(json.dumps({"id": d.doc_id, **d._asdict()}, indent=1) for d in DOCS)),
        ("x.json", jsonl(DOCS)),
        ("x", jsonl(DOCS)),
        ("x.tsv", "text\tdocid\ttitle\n" + "".join(f"{d[1]}\t{d[0]}\t{d[2]}\n" for d in DOCS)),
        ("x", "text\tdocid\ttitle\n" + "".join(f"{d[1]}\t{d[0]}\t{d[2]}\n" for d in DOCS)),
    ],
)
def test_the_format_is_told_by_content_and_extension(tmp_path, name, content, packed):
    assert read(write(tmp_path / (name + packed), PACK[packed](content.encode()))) == DOCS


@pytest.mark.parametrize("layout", ["corpus.jsonl.gz", "collection.tsv", "corpus/1.jsonl"])
def test_a_folder_leads_to_its_corpus(tmp_path, layout):
    path = tmp_path / layout
    write(path.parent / "queries.jsonl", '{"_id": "q", "text": "?"}\n')
    write(tmp_path / "qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\t1\t1\n")
    content = b"1\tx\n" if layout.endswith("tsv") else b'{"_id": "1", "text": "x"}\n'
    write(path, gzip.compress(content) if layout.endswith("gz") else content)
    if layout.startswith("corpus/"):
        (tmp_path / "corpus/queries.jsonl").unlink()
    assert read(tmp_path) == [Document("1", "x")]


def test_shards_are_read_in_the_order_of_their_names(tmp_path):
    for name in ("docs02.jsonl.gz", "docs01.jsonl.gz", "docs10.jsonl.gz"):
        line = json.dumps({"id": name[4:6], "contents": "x"}).encode()
        write(tmp_path / name, gzip.compress(line))
    assert [d.doc_id for d in read(tmp_path)] == ["01", "02", "10"]


def test_a_folder_of_texts_keeps_paths_as_ids_and_text_as_it_is(tmp_path):
    write(tmp_path / "b.md", "# Head\r\n\r\nBody\r\n")
    write(tmp_path / "a/ü.txt", "\ufeffplain")
    write(tmp_path / ".git/x.txt", "hidden")
    write(tmp_path / "a/picture.png", b"\x89PNG")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert read(tmp_path) == [
        Document("b.md", "# Head\r\n\r\nBody\r\n"),
        Document("a/ü.txt", "plain"),
    ]


def test_one_text_file_is_one_document(tmp_path):
    assert read(write(tmp_path / "note.md", "a\tb\n")) == [Document("note.md", "a\tb\n")]


def test_several_collections_in_a_folder_are_named(tmp_path):
    write(tmp_path / "scifact/corpus.jsonl", jsonl(DOCS))
    write(tmp_path / "README.md", "about")
    assert "scifact" in fault(tmp_path)


def test_records_and_texts_side_by_side_are_refused(tmp_path):
    write(tmp_path / "a.jsonl", jsonl(DOCS))
    write(tmp_path / "b.md", "text")
    assert "records (a.jsonl) and texts (b.md)" in fault(tmp_path)


def test_standard_input_is_a_corpus(monkeypatch):
    class Stdin:
        buffer = io.BytesIO(gzip.compress(jsonl(DOCS).encode()))

    monkeypatch.setattr("sys.stdin", Stdin)
    stats = CorpusStats()
    assert read("-", stats=stats) == DOCS
    assert stats.total_bytes is None
    assert stats.location == "standard input:2"
    assert not Stdin.buffer.closed


@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_members_and_frames_one_after_the_other_are_one_file(tmp_path, packed):
    pack = PACK[packed]
    halves = [pack(jsonl([doc]).encode()) for doc in DOCS]
    assert read(write(tmp_path / f"c.jsonl{packed}", b"".join(halves))) == DOCS


@given(documents)
@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("layout", ["jsonl", "json", "indented"])
def test_what_json_can_say_is_read_exactly(tmp_path_factory, packed, layout, docs):
    rows = [{"_id": d.doc_id, "title": d.title, "text": d.text} for d in docs]
    if layout == "jsonl":
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        content = json.dumps(rows, indent=2 if layout == "indented" else None)
    path = tmp_path_factory.mktemp("c") / f"c.{layout[:5].replace('inden', 'json')}{packed}"
    assert read(write(path, PACK[packed](content.encode()))) == docs


plain = st.text(st.characters(exclude_characters="\t\n\r\0\ufeff", exclude_categories=["Cs"]))


@given(
    st.lists(
        st.tuples(plain.filter(bool), plain, plain).map(lambda row: Document(*row)), min_size=1
    )
)
@example([Document("\f", ""), Document(" ", "")])
def test_what_tsv_can_say_is_read_exactly(tmp_path_factory, docs):
    path = tmp_path_factory.mktemp("c") / "c.tsv"
    write(path, "id\ttext\ttitle\n" + "".join("\t".join(doc[:3]) + "\n" for doc in docs))
    assert read(path) == docs


def test_values_across_the_pieces_of_a_json_file_are_whole(tmp_path):
    rng = random.Random(1)
    docs = [Document(str(i), 'é🦊\\"\n' * rng.randrange(20_000), "t") for i in range(30)]
    rows = [{"id": d.doc_id, "title": d.title, "text": d.text} for d in docs]
    assert read(write(tmp_path / "c.json", json.dumps(rows))) == docs
    assert read(write(tmp_path / "d.json", json.dumps(rows, ensure_ascii=False, indent=1))) == docs


def test_ids_keep_the_characters_of_the_file(tmp_path):
    rows = '{"id": 1, "text": "x"}\n{"id": "1.0", "text": "x"}\n{"id": "01", "text": "x"}\n'
    huge = "9" * 5000
    rows += f'{{"id": {huge}, "text": "x"}}\n{{"id": " a\\tb/ü\\n", "text": ""}}\n'
    rows += json.dumps({"id": "k" * 10_000, "text": "x"})
    assert [d.doc_id for d in read(write(tmp_path / "c.jsonl", rows))] == [
        "1", "1.0", "01", huge, " a\tb/ü\n", "k" * 10_000,
    ]  # fmt: skip


def test_empty_texts_are_kept_and_repeated_ids_passed_on(tmp_path):
    path = write(
        tmp_path / "c.jsonl", '{"id": "1", "text": ""}\n\n{"id": "1", "text": " .\\u0000"}'
    )
    stats = CorpusStats()
    assert read(path, stats=stats) == [Document("1", ""), Document("1", " .\0")]
    assert stats.location == f"{path}:3"  # blank lines are no records, but lines


def test_contents_that_begin_with_the_title_hold_it_once(tmp_path):
    path = write(tmp_path / "c.jsonl", '{"id": "1", "title": "T", "contents": "T\\nx"}')
    assert read(path)[0].contents == "T\nx"


@pytest.mark.parametrize("breaks", ["\n", "\r\n"])
def test_a_byte_order_mark_and_crlf_leave_no_trace(tmp_path, breaks):
    content = "\ufeff" + breaks.join(["1\ta \u2028b", "2\tc"]) + breaks
    assert read(write(tmp_path / "c.tsv", content)) == [
        Document("1", "a \u2028b"),
        Document("2", "c"),
    ]


BAD_LINES = [
    ('{"id": "2", "text": ', "not JSON"),
    ('["2", "x"]', "an array; wanted an object"),
    ("nonsense", "not JSON"),
    ('{"text": "x"}', "no id"),
    ('{"id": null, "text": "x"}', "no id"),
    ('{"id": "", "text": "x"}', "'id' is empty"),
    ('{"id": 1.0, "text": "x"}', "'id' is the number 1.0; wanted a string"),
    ('{"id": NaN, "text": "x"}', "'id' is the number NaN"),
    ('{"id": true, "text": "x"}', "'id' is true or false"),
    ('{"id": ["2"], "text": "x"}', "'id' is an array"),
    ('{"id": "2", "titel": "x"}', "no text: the record has 'id', 'titel'"),
    ('{"id": "2", "text": 7}', "'text' is the number 7; wanted a string"),
    ('{"id": "2", "text": {"a": "b"}}', "'text' is an object; wanted a string"),
    ('{"id": "2", "text": "x", "title": []}', "'title' is an array"),
    ('{"id": "2", "text": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deep"),
    ('{"id": "2", "text": "' + "x" * 300_000 + '"}', "longer than 262,144 bytes"),
    ('{"id": "2", "text": "a\\ud800b"}', "half a surrogate pair, U+D800"),
    (b'{"id": "2", "text": "caf\xe9"}', "byte 25 of the line is not UTF-8"),
]


@pytest.mark.parametrize(("line", "says"), BAD_LINES)
def test_a_bad_line_is_named_skipped_or_put_aside(tmp_path, line, says):
    raw = line if isinstance(line, bytes) else line.encode()
    good = b'{"id": "1", "text": "x"}\n'
    path = write(tmp_path / "c.jsonl", good + raw + b"\n" + good)
    limit = 1 << 18
    message = fault(path, max_line_bytes=limit)
    assert message.startswith(f"{path}:2: ")
    assert says in message and message.endswith(".")
    stats = CorpusStats()
    assert len(read(path, on_error="skip", stats=stats, max_line_bytes=limit)) == 2
    assert (stats.read, stats.skipped, stats.quarantined) == (2, 1, 0)
    aside = tmp_path / "aside.jsonl"
    stats = CorpusStats()
    kept = read(path, on_error="quarantine", quarantine=aside, stats=stats, max_line_bytes=limit)
    assert len(kept) == 2 and (stats.skipped, stats.quarantined) == (0, 1)
    [entry] = map(json.loads, aside.read_text().splitlines())
    assert (entry["source"], entry["line"]) == (str(path), 2)
    assert says in entry["reason"]
    back = entry["raw"].encode("utf-8", "surrogateescape")
    assert back == (raw if len(raw) <= limit else raw[:4096])


@pytest.mark.parametrize("line", ["2", "2\tx\ty", "2\ta\0b", "\tx"])
def test_a_bad_tsv_line_is_named(tmp_path, line):
    assert fault(write(tmp_path / "c.tsv", f"1\tx\n{line}\n")).startswith(f"{tmp_path}/c.tsv:2: ")


def test_a_bad_element_of_an_array_is_named_by_its_line_and_skipped(tmp_path):
    path = write(tmp_path / "c.json", '[\n{"id": "1", "text": "x"},\n7,\n{"id": 2, "text": "y"}]')
    assert fault(path) == f"{path}:3: got the number; wanted an object with an id and a text."
    assert [d.doc_id for d in read(path, on_error="skip")] == ["1", "2"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('[\n{"id": "1", "text": "x"}', "c.json:2: the array is not closed"),
        ('[\n{"id": "1", "text": "x"},\n{"id": "2", "te', "c.json:3: not JSON"),
        ('[{"id": "1", "text": "x"}\n{"id": "2"}]', "c.json:2: got '{\"id\": \"2\"}]'; wanted ','"),
        ('[{"id": "1", "text": "x"}]\n]', "c.json:2: more text after the array"),
        ('[{"id": "1", "text": "x"},\n]', "c.json:2: not JSON: Expecting value"),
        ("[" * 100_000, "nested too deep"),
        ('[{"id": "1", "text": "' + "x" * 400_000, "longer than 262,144 characters"),
        ('[{"id": "1", "text": "\\q' + "x" * 400_000, "c.json:1: not JSON"),
    ],
)
def test_a_broken_array_ends_the_reading_even_where_faults_are_skipped(tmp_path, content, says):
    path = write(tmp_path / "c.json", content)
    assert says in fault(path, on_error="skip", max_line_bytes=1 << 18)


@pytest.mark.parametrize("name", ["c.jsonl", "c.json"])
def test_undecodable_text_follows_the_encoding_policy(tmp_path, name):
    rows = [b'{"id": "1", "text": "caf\xe9!"}', b'{"id": "2", "text": "\\udc80"}']
    rows.append(b'{"id": "3", "text": "\\ud83e\\udd8a"}')  # a whole pair is a character
    path = tmp_path / name
    write(path, b"\n".join(rows) if name == "c.jsonl" else b"[" + b",".join(rows) + b"]")
    assert "UTF-8" in fault(path)
    stats = CorpusStats()
    assert [d.text for d in read(path, encoding_errors="replace")] == ["caf\ufffd!", "\ufffd", "🦊"]
    assert [d.doc_id for d in read(path, encoding_errors="skip", stats=stats)] == ["3"]
    assert stats.skipped == 2


def test_nul_bytes_of_plain_text_follow_the_encoding_policy(tmp_path):
    write(tmp_path / "a.txt", "a\0b")
    write(tmp_path / "b.txt", "fine")
    assert (
        fault(tmp_path)
        == f"{tmp_path}/a.txt: a NUL byte, as in binary or UTF-16 files; wanted UTF-8 text."
    )
    assert read(tmp_path, encoding_errors="replace")[0].text == "a\ufffdb"
    assert [d.doc_id for d in read(tmp_path, encoding_errors="skip")] == ["b.txt"]


def test_utf16_is_told_from_damage(tmp_path):
    path = write(tmp_path / "c.jsonl", jsonl(DOCS).encode("utf-16"))
    assert "UTF-16 text; wanted UTF-8: iconv" in fault(path)


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
@pytest.mark.parametrize("name", ["c.jsonl", "c.tsv", "c.json", "c.jsonl.gz", "c"])
def test_a_source_without_documents_says_so(tmp_path, name, content):
    raw = content.encode()
    path = write(tmp_path / name, gzip.compress(raw) if name.endswith("gz") else raw)
    assert fault(path).startswith(f"{path}: no documents: it is empty")


def test_a_source_of_faults_alone_says_so(tmp_path):
    path = write(tmp_path / "c.jsonl", "{}\n{}\n")
    assert "no documents: all 2 records were left out" in fault(path, on_error="skip")


def test_an_empty_array_has_no_documents(tmp_path):
    assert "no documents" in fault(write(tmp_path / "c.json", "[]"))


@pytest.mark.parametrize("name", ["corpus.jsnol", "corpus.jsonl.gz"])
def test_a_wrong_path_is_answered_with_the_nearest_name(tmp_path, name):
    write(tmp_path / "corpus.jsonl", jsonl(DOCS))
    message = fault(tmp_path / name)
    assert f"{tmp_path}/{name}: no such file or folder. Did you mean 'corpus.jsonl'?" in message
    assert "a BEIR folder (corpus.jsonl)" in message


def test_a_folder_without_a_corpus_says_what_it_holds(tmp_path):
    write(tmp_path / "queries.jsonl", "{}")
    assert "no corpus in it, only queries.jsonl; wanted a BEIR folder" in fault(tmp_path)


def test_text_that_is_neither_json_nor_tsv_is_refused(tmp_path):
    assert "neither JSON nor tab-separated" in fault(write(tmp_path / "c.csv", "id,text\n1,x\n"))


def test_the_path_is_judged_at_the_call(tmp_path):
    with pytest.raises(InputError):
        read_corpus(tmp_path / "nothing")


@pytest.mark.parametrize(
    "policies",
    [
        {"on_error": "ignore"},
        {"on_error": "quarantine"},
        {"quarantine": "x.jsonl"},
        {"encoding_errors": "ignore"},
        {"max_line_bytes": 0},
    ],
)
def test_policies_that_do_not_fit_are_refused(tmp_path, policies):
    with pytest.raises(UsageError):
        read_corpus(write(tmp_path / "c.jsonl", jsonl(DOCS)), **policies)


def test_bytes_are_counted_for_a_progress_bar(tmp_path):
    path = write(tmp_path / "c.jsonl.gz", gzip.compress(jsonl(DOCS).encode()))
    stats = CorpusStats()
    stream = read_corpus(path, stats=stats)
    assert stats.total_bytes == path.stat().st_size
    list(stream)
    assert stats.bytes_read == stats.total_bytes


@given(st.binary(max_size=300), st.sampled_from(["c.jsonl", "c.json", "c.tsv", "c.txt", "c.gz"]))
def test_arbitrary_bytes_give_documents_or_a_named_error(tmp_path_factory, raw, name):
    path = write(tmp_path_factory.mktemp("c") / name, raw)
    try:
        for doc in read_corpus(path):
            assert doc.doc_id and doc.text.encode() is not None
    except TokretError as error:
        assert str(path) in str(error)


def test_a_link_out_of_a_folder_of_texts_is_a_fault_that_is_named(tmp_path):
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").symlink_to("a.txt")
    (folder / "c.txt").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to(folder)
    with pytest.raises(InputError, match=r"c\.txt: a link that leads out of the folder"):
        list(read_corpus(folder))
    stats = CorpusStats()
    found = list(read_corpus(folder, on_error="skip", stats=stats))
    assert [d.doc_id for d in found] == ["a.txt", "b.txt"] and stats.skipped == 1
    (given,) = read_corpus(folder / "c.txt")  # whoever names a link means it
    assert given.text == "secret" and given.doc_id == "c.txt"


def test_a_pipe_among_texts_is_not_waited_for(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs pipes with names")
    (tmp_path / "a.txt").write_text("a")
    os.mkfifo(tmp_path / "b.txt")
    (tmp_path / "c.txt").symlink_to(tmp_path / "nothing")
    stats = CorpusStats()
    assert len(list(read_corpus(tmp_path, on_error="skip", stats=stats))) == 1
    assert stats.skipped == 2
    with pytest.raises(InputError, match=r"b\.txt: a pipe, a device, or a link to nothing"):
        list(read_corpus(tmp_path))
