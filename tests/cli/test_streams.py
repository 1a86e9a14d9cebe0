"""Standard output, standard error, terminals and pipes, each in a process of its own."""

import json
import os
import re
import subprocess
import sys

import pytest

from tokret.cli.talk import Talk

HOSTILE = [
    {"_id": "\x1b[2J\x9b31m", "title": "\u202eevil", "text": "cats \x1b]0;owned\x07 [red]x[/red]"},
    {"_id": "日本\u2028語", "text": "cats \x9b31m naïve 東京 \u2066 \ud83d\ude00"},
]
COLOUR = re.compile(r"\x1b\[[0-9;]*\b(3[0-8]|4[0-8])\b")


def finished(process, data=None):
    out, err = process.communicate(data, timeout=60)
    return process.returncode, out.decode(), err.decode()


def on_a_terminal(start, *words, **env):
    """Run with standard output and error on a pseudo-terminal; returns what it got."""
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    env = {"TERM": "xterm-256color", "COLUMNS": "100", **env}
    process = start(*words, env=env, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # how Linux says that the other end is closed
            break
        if not piece:
            break
        seen += piece
    os.close(master)
    assert process.wait(60) == 0, seen
    return seen.decode()


def test_help_is_light():
    code = (
        "import sys\n"
        "from tokret.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'onnxruntime', 'tokenizers',"
        " 'bm25s', 'ir_measures', 'scipy', 'pydantic', 'zstandard', 'safetensors', 'Stemmer'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "index" in done.stdout


def test_python_m_tokret_is_the_command():
    done = subprocess.run([sys.executable, "-m", "tokret", "--version"], capture_output=True)
    assert done.returncode == 0
    assert re.fullmatch(rb"tokret \d+\.\d+\.\d+\S*\s+", done.stdout)


def test_a_reader_that_leaves_is_no_error(start, build, tmp_path, write):
    index = build(write(tmp_path / "c.jsonl", [{"_id": i, "text": "cat"} for i in range(900)]))
    queries = write(tmp_path / "q.jsonl", [{"_id": i, "text": "cat"} for i in range(99)])
    for words in (["--queries", queries, "--json"], ["cat", "-k", 900]):
        process = start("search", index, *words)
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(60) == 0
        assert b"Traceback" not in process.stderr.read()


def test_a_reader_that_never_came_is_no_error(start, index):
    for words in (["--help"], ["--version"], ["info", index]):
        read, write = os.pipe()
        os.close(read)
        process = start(*words, stdout=write)
        os.close(write)
        assert process.wait(60) == 0, words
        assert b"error" not in process.stderr.read()


def test_closed_standard_error_does_not_end_the_work(start, tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(
        'collection = "sample"\nlimit_queries = 2\n[[system]]\nname = "b"\nbackend = "bm25"\n'
    )
    read, write = os.pipe()
    os.close(read)
    process = start("evaluate", file, "--work", tmp_path / "work", stderr=write)
    os.close(write)
    assert process.wait(60) == 0
    assert b"nDCG@10" in process.stdout.read()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_under_standard_output_is_status_5(start, index):
    with open("/dev/full", "w") as full:
        process = start("info", index, "--json", stdout=full)
        assert process.wait(60) == 5
    err = process.stderr.read().decode()
    assert "No space left" in err and "Traceback" not in err


def test_a_pipe_gets_no_control_codes(start, build, corpus):
    index = build(corpus)
    for words in (["search", index, "cats"], ["search", "--help"]):
        status, out, err = finished(start(*words))
        assert status == 0 and "\x1b" not in out + err


def test_a_terminal_gets_colour_and_says_so(start, build, corpus):
    index = build(corpus)
    assert COLOUR.search(on_a_terminal(start, "search", index, "cats"))


def test_no_color_leaves_bold_and_underline(start, build, corpus):
    seen = on_a_terminal(start, "search", build(corpus), "cats", NO_COLOR="1")
    assert not COLOUR.search(seen)
    assert "\x1b[1;4mcats" in seen


def test_a_dumb_terminal_gets_no_control_codes(start, build, corpus, tmp_path):
    seen = on_a_terminal(start, "search", build(corpus), "cats", TERM="dumb")
    assert "\x1b" not in seen
    assert "*cats*" in seen
    words = ["index", corpus, "-o", tmp_path / "more", "-b", "bm25"]
    assert "\x1b" not in on_a_terminal(start, *words, TERM="dumb")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_any_encoding_of_standard_output_will_do(start, build, tmp_path, write, encoding):
    index = build(write(tmp_path / "c.jsonl", HOSTILE))
    env = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for words in (["cats"], ["cats", "--json"]):
        process = start("search", index, *words, env=env)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert b"Traceback" not in err
        out.decode(encoding)
        if len(words) > 1:
            assert "東京" in json.dumps(json.loads(out.splitlines()[0]), ensure_ascii=False)


def test_hostile_documents_and_ids_cannot_steer_the_terminal(start, tokret, build, tmp_path, write):
    index = build(write(tmp_path / "c.jsonl", HOSTILE))
    forbidden = ["\x1b]", "\x1b[2J", "\x9b", "\x07", "\u202e", "\u2066"]
    seen = on_a_terminal(start, "search", index, "cats")
    assert "[red]" in seen
    for words in (["cats"], ["cats", "--json"], ["cats", "-f", "trec"]):
        seen += tokret("search", index, *words).output
    for words in (["delete", index, "\x1b[2Jnobody"], ["search", "\x1b[2Jnowhere", "x"]):
        seen += tokret(*words).output
    assert [code for code in forbidden if code in seen] == []


@pytest.mark.parametrize("form", ["text", "json"])
def test_nothing_said_can_steer_the_terminal(capsys, form):
    talk = Talk(json=True, log_format=form)
    for speak in (talk.say, talk.warn, talk.line, lambda text: talk.result({"key": text})):
        speak("\x1b[2J\x9b31m\u202e\x07")
    talk.fail(ValueError("\x1b[2J"), "\x1b[2J\x9b", 2)
    captured = capsys.readouterr()
    seen = captured.out + captured.err
    assert seen.count("[2J") == 6
    assert not any(code in seen for code in "\x1b\x9b\u202e\x07")


def test_ids_that_no_trec_file_can_hold_are_refused(tokret, build, tmp_path, write):
    index = build(write(tmp_path / "c.jsonl", HOSTILE))
    result = tokret("search", index, "cats", "-f", "trec")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "jsonl" in result.stderr


def test_completion_knows_commands_backends_and_measures(tokret):
    def completed(*words):
        env = {
            "_TOKRET_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["tokret", *words]),
            "COMP_CWORD": str(len(words)),
        }
        return tokret(env=env).stdout.split()

    assert "search" in completed("se")
    assert completed("index", "--backend", "b") == ["bm25"]
    assert completed("search", "--scorer", "x") == ["xtr"]
    assert completed("eval", "-m", "nD") == ["nDCG@10"]
