"""Whatever data say: nothing that a command writes to a terminal can steer it."""

import io
import json
import re
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tokret.cli import COMMANDS, app
from tokret.cli.console import SafeConsole
from tokret.cli.talk import LONGEST, Talk
from tokret.indexes import Index
from tokret.types import Document

# Colours and weights, and the lines that a bar takes back, which rich writes for us.
OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\r?(\x1b\[1A)*\x1b\[2K|\r(?=\x1b\[1A)")
HARMFUL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
CODES = [
    *(
        "\x1b[2J",
        "\x1b]0;owned\x07",
        "\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\",
        "\x1bP",
        "\x1b",
    ),
    *("\x9b31m", "\x9d0;x\x9c", "\x90", "\r", "\b\b\b", "\x7f", "\0", "\x0e", "\x85"),
    *("\u202e", "\u2066", "\u200f", "\u2028", "\ufeff", "\U000e0041"),
    *("[red]x[/red]", "<script>alert(1)</script>", ":bomb:", "cats", "\t", "\n", " ", "é", "東"),
]
texts = st.lists(
    st.sampled_from(CODES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    max_size=6,
).map("".join)
ids = texts.filter(bool)
names = ids.map(lambda name: re.sub("[/\0]", "_", name)).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 100
)


class Terminal(io.StringIO):
    """What isatty is true of, and remembers."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture(autouse=True, scope="module")
def colours():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm-256color")
        patch.setenv("COLUMNS", "100")
        for name in ("NO_COLOR", "TOKRET_DEBUG", "TOKRET_MODEL", "FORCE_COLOR"):
            patch.delenv(name, raising=False)
        yield


def ran(*words):
    """Run a command on a terminal; its status, and what standard output and error got."""
    with pytest.MonkeyPatch.context() as patch:
        out, err = Terminal(), Terminal()
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        status = app([str(word) for word in words], standalone_mode=False)
    return status, out.getvalue(), err.getvalue()


def harmless(seen):
    return HARMFUL.search(OURS.sub("", seen)) is None


def lines(seen):
    """Data that may have tabs between fields, or in them."""
    return seen.replace("\t", "")


def made(folder, document):
    with Index.create(folder, backend="bm25") as index:
        index.add([document])
    return folder


@settings(max_examples=6, phases=[Phase.explicit, Phase.generate])  # shrinking takes minutes
@given(doc_id=ids, text=texts, title=texts, value=ids, query=texts, name=names)
def test_nothing_in_an_index_reaches_the_terminal(doc_id, text, title, value, query, name):
    document = Document(doc_id, f"{text} cats", title, {"field": value})
    with tempfile.TemporaryDirectory() as root:
        path = made(Path(root) / name, document)
        for words in (
            ["search", path, "cats"],
            ["search", path, query or " "],
            ["search", path, "cats", "--format", "jsonl"],
            ["search", path, "cats", "--format", "trec"],
            ["search", path, "cats", "--run", "-"],
            ["search", path, "cats", "--where", f"field == {json.dumps(value)}"],
            ["search", path, "cats", "--where", value],
            ["info", path],
            ["verify", path],
            ["delete", path, "--missing", "skip", "--dry-run", "--", doc_id, value],
            ["delete", path, "--", value + "!"],
        ):
            status, out, err = ran(*words)
            assert status in (0, 2, 3) and harmless(lines(out)) and harmless(err), words[0]
        _, out, _ = ran("search", path, "cats", "--json")
        (hit,) = json.loads(out)["queries"][0]["hits"]
        assert harmless(out) and json.loads(out)["index"] == str(path)
        assert (hit["doc_id"], hit["fields"]) == (doc_id, {"field": value})
        assert hit["text"] == document.contents
        (path / "CURRENT").write_text("{")
        for words in (
            ["verify", path],
            ["search", path, "x"],
            ["info", path, "--json"],
            ["repair", path, "--dry-run"],
            ["repair", path, "--out", f"{path}-new"],
        ):
            status, out, err = ran(*words)
            assert status in (0, 1, 4) and harmless(lines(out)) and harmless(err)


@settings(max_examples=6, phases=[Phase.explicit, Phase.generate])  # shrinking takes minutes
@given(name=names, line=texts, doc_id=ids, spec=texts)
def test_nothing_in_a_corpus_or_a_request_reaches_the_terminal(name, line, doc_id, spec):
    twice = json.dumps({"_id": doc_id, "text": "cats"})
    with tempfile.TemporaryDirectory() as root:
        for i, content in enumerate([line, twice + "\n" + twice, json.dumps({line: 1, "_id": 2})]):
            file = Path(root) / f"{i}{name}.jsonl"
            file.write_text(content, encoding="utf-8", newline="")
            for words in (
                ["index", file, "-o", Path(root) / f"{name}-{i}", "-b", "bm25", "--no-progress"],
                ["eval", file, "--qrels", file],
                ["search", Path(root) / "none", "--queries", file],
            ):
                status, out, err = ran(*words)
                assert status in (0, 2, 3, 4) and harmless(out) and harmless(err), words
        for words in (
            ["search", Path(root) / name, "x"],
            ["index", Path(root) / name, "-o", name],
            ["index", "x", "-o", name, "--backend", spec or "b"],
            ["evaluate", Path(root) / f"{name}.toml"],
            [spec or "x"],
            ["info", "--" + spec],
        ):
            status, out, err = ran(*words)
            assert harmless(out) and harmless(err), words
            assert status in (0, 2, 3, 4)  # 0: the text was an option such as --help


@settings(max_examples=6, phases=[Phase.explicit, Phase.generate])
@given(name=names, query=ids, doc=ids)
def test_nothing_in_a_run_reaches_the_terminal(name, query, doc):
    with tempfile.TemporaryDirectory() as root:
        runs = []
        for i in range(2):
            hits = [{"doc_id": doc, "score": 2}, {"doc_id": f"{doc}{i}", "score": 3 * i}]
            record = {"query_id": query, "run": name, "hits": hits}
            runs.append(Path(root) / f"{i}{name}.jsonl")
            runs[-1].write_text(json.dumps(record) + "\n", encoding="utf-8")
        if not all(map(str.isprintable, query + doc)) or re.search(r"\s", query + doc):
            query, doc = "q", "d"  # no file of judgements can hold them
        qrels = Path(root) / f"{name}.qrels"
        qrels.write_text(f"{query} 0 {doc} 1\n", encoding="utf-8")
        for words in (
            ["eval", *runs, "--qrels", qrels, "--per-query"],
            ["eval", runs[0], "--qrels", qrels, "--json"],
            ["explain-measure", "nDCG@10", "--run", runs[0], "--qrels", qrels, "--query", query],
            ["explain-measure", "AP", "--run", runs[0], "--qrels", qrels, "--query", name],
            ["compare", *runs, "--qrels", qrels, "--resamples", "9", "--permutations", "9"],
            ["fuse", *runs, "-o", f"{runs[0]}.fused"],
            ["leaderboard", *runs, "--qrels", qrels],
        ):
            if words[0] not in COMMANDS:
                continue
            status, out, err = ran(*words)
            assert status in (0, 2, 3) and harmless(lines(out)) and harmless(err), words


@given(message=texts)
def test_no_message_reaches_the_terminal_as_it_is(message):
    with pytest.MonkeyPatch.context() as patch:
        out, err = Terminal(), Terminal()
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        talk = Talk(verbose=1)
        talk.say(message)
        talk.warn(message)
        talk.fail(ValueError(message), message, 2)
        Talk(log_format="json").warn(message)
        Talk(json=True).result({message: message})
    assert harmless(out.getvalue()) and harmless(err.getvalue())
    assert json.loads(out.getvalue())[message] == message


@given(text=texts)
def test_what_a_command_forgot_to_escape_is_harmless_on_the_console(text):
    from rich.panel import Panel
    from rich.progress import Progress, TextColumn
    from rich.table import Table
    from rich.text import Text

    out = Terminal()
    console = SafeConsole(file=out, markup=False, highlight=False, emoji=False, width=60)
    table = Table(title=text, caption=text)
    table.add_column(text)
    table.add_row(Text(text, "bold red"), style="on blue")
    with Progress(
        TextColumn("{task.description}", markup=False), console=console, disable=True
    ) as bar:
        bar.add_task(text)
        for shown in (text, table, Panel(text, title=text), bar.get_renderable()):
            console.print(shown)
    assert harmless(out.getvalue())


def test_a_long_message_is_cut_in_its_middle(capsys):
    Talk().warn("begin " + "x" * 10**6 + " end")
    said = capsys.readouterr().err
    assert len(said) < LONGEST + 200 and "begin" in said and " end" in said and "996," in said


def test_an_id_of_ten_thousand_bytes_is_kept_and_found(tmp_path):
    doc_id = "é" * 5000
    path = made(tmp_path / "i", Document(doc_id, "cats"))
    status, out, _ = ran("search", path, "cats", "--json")
    assert status == 0 and json.loads(out)["queries"][0]["hits"][0]["doc_id"] == doc_id
    assert ran("delete", path, doc_id)[0] == 0
    status, _, err = ran("delete", path, doc_id)
    assert status == 2 and len(err) < 400


@pytest.mark.parametrize("doc_id", ["\x9b31m", "a\u202eb", "\x85", "\U000e0041"])
@pytest.mark.parametrize("words", [["--run", "-"], ["--run", "-", "-f", "jsonl"], ["-f", "trec"]])
def test_a_run_on_standard_output_holds_no_id_that_could_steer(tmp_path, doc_id, words):
    path = made(tmp_path / "i", Document(doc_id, "cats"))
    status, out, err = ran("search", path, "cats", *words)
    assert (status, out) == (3, "") and harmless(err)
    file = tmp_path / "out.jsonl"
    assert ran("search", path, "cats", "--run", file, "-f", "jsonl")[0] == 0
    assert json.loads(file.read_text(encoding="utf-8"))["hits"][0]["doc_id"] == doc_id
