"""compare and explain-measure: tables, JSON, and a page in which nothing of a stranger runs."""

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tokret.cli.compare_page import Sources, compare_page, shared_words
from tokret.evaluation import compare
from tokret.indexes import Index

VOID = {"meta", "line"}
HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onload='x", "</title>"]
HOSTILE += ["&lt;b&gt;", "a\x00b\x1b[2J", "\u202egnp.exe", "]]>", "<!--", "javascript:x", "{{x}}"]
strange = st.sampled_from(HOSTILE) | st.text(min_size=1, max_size=8)


class Page(HTMLParser):
    """Checks nesting, collects tags, attributes and text."""

    def __init__(self, content):
        super().__init__()
        self.open, self.tags, self.text, self.scripts = [], [], [], 0
        self.feed(content)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


def checked(content):
    page = Page(content)
    assert {tag for tag, _ in page.tags} <= {
        *(
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "header",
            "h1",
            "h2",
            "h3",
            "p",
            "main",
        ),
        *("div", "table", "thead", "tbody", "tr", "th", "td", "span", "svg", "line"),
        *("text", "rect", "a", "details", "summary", "section", "ol", "li", "mark", "footer"),
        "script",
    }
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        if tag == "a":
            assert attributes["href"][0] == "#" and attributes["href"][1:] in ids
    assert not re.search("[\x00-\x08\x1b\u202e]", content)
    return page


@settings(max_examples=25, phases=[Phase.explicit, Phase.generate])
@given(
    ids=st.lists(strange, min_size=4, max_size=4, unique=True),
    names=st.lists(strange, min_size=2, max_size=2, unique=True),
    words=strange,
)
def test_no_id_name_or_text_becomes_markup(ids, names, words):
    query, a, b, c = ids
    runs = {names[0]: {query: {a: 2.0, b: 1.0}}, names[1]: {query: {b: 2.0, a: 1.0, c: 0.5}}}
    qrels = {query: {a: 1, c: 0}}
    found = compare(runs, qrels, "RR", permutations=9, resamples=9, keep=9)
    documents = {doc: f"{words} {doc} {words}" for doc in (a, b, c)}
    sources = Sources({query: words}, documents, shared_words, "words of the query")
    checked(compare_page(found, qrels, sources, policy="p"))


@pytest.fixture
def files(tmp_path):
    """Two runs, a BEIR folder; the second run is better in q1 and has a tie in q2."""
    texts = {"cat": "The cat sat on the mat.", "dog": "A dog chases cats.", "tea": "Tea is hot."}
    rows = [{"_id": i, "title": "", "text": t} for i, t in texts.items()]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [{"_id": "q1", "text": "a cat"}, {"_id": "q2", "text": "hot tea"}]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries))
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\tcat\t1\nq2\ttea\t2\n"
    )
    (tmp_path / "a.run").write_text(
        "q1 Q0 dog 1 2 a\nq1 Q0 cat 2 1 a\nq2 Q0 tea 1 2 a\nq2 Q0 dog 2 1 a\n"
    )
    (tmp_path / "b.run").write_text(
        "q1 Q0 cat 1 2 b\nq1 Q0 dog 2 1 b\nq2 Q0 tea 1 2 b\nq2 Q0 dog 2 2 b\n"
    )
    return tmp_path


def test_the_table_has_means_differences_and_counts(tokret, files):
    got = tokret("compare", files / "a.run", files / "b.run", "-r", files, "--measure", "RR R@1")
    assert got.exit_code == 0, got.stderr
    assert re.search(r"RR +\+0\.0000 .* 1/0/1", got.stdout)
    assert "corrected by Holm over the 2 comparisons" in got.stderr
    assert "Ties decide RR" in got.stderr


def test_json_has_every_test_and_the_digests(tokret, files):
    got = tokret("compare", files / "a.run", files / "b.run", "-r", files, "--json", "--per-query")
    told = json.loads(got.stdout)
    first = told["differences"][0]
    assert set(first["p"]) == set(first["holm"]) == {"randomisation", "t", "wilcoxon"}
    assert told["digests"][str(files / "a.run")] and told["method"]["exact"]
    assert told["per_query"]["nDCG@10"]["q1"][str(files / "b.run")] == 1


def test_the_page_shows_both_lists_with_text_and_shared_words(tokret, files):
    page = files / "page.html"
    got = tokret("compare", files / "a.run", files / "b.run", "-r", files, "--html", page)
    assert got.exit_code == 0, got.stderr
    content = page.read_text()
    shown = checked(content)
    assert "http" not in re.sub(r"http-equiv", "", content)
    assert "The <mark" in content and ">cat</mark> sat" in content
    assert sum(tag == "details" for tag, _ in shown.tags) == 2
    assert "relevant, grade 2" in content and "there at 2" in content


def test_with_an_index_the_page_marks_what_matches(tokret, files):
    with Index.create(files / "index", backend="bm25") as index:
        index.add([("cat", "The cat sat on the mat."), ("dog", "A dog chases cats.")])
    page = files / "page.html"
    words = ("compare", files / "a.run", files / "b.run", "-r", files)
    got = tokret(*words, "--index", files / "index", "--html", page)
    assert got.exit_code == 0, got.stderr
    assert "<mark class=" in page.read_text()


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["a.run"], 2, "two runs"),
        (["a.run", "a.run"], 2, "given twice"),
        (["a.run", "-"], 2, "not standard input"),
        (["a.run", "none.run"], 3, "no such file"),
        (["a.run", "empty.run"], 3, "no hits in it"),
        (["a.run", "other.run"], 3, "share no query"),
        (["a.run", "nan.run"], 3, "nan.run:1: score nan"),
    ],
)
def test_what_cannot_be_compared_is_refused(tokret, files, words, status, says):
    (files / "empty.run").write_text("")
    (files / "other.run").write_text("zz Q0 cat 1 1 x\n")
    (files / "nan.run").write_text("q1 Q0 cat 1 nan x\n")
    paths = [word if word == "-" else files / word for word in words]
    got = tokret("compare", *paths, "-r", files)
    assert got.exit_code == status and says in got.stderr


def test_a_measure_is_explained_term_by_term(tokret, files):
    words = ("explain-measure", "nDCG@10", "--run", files / "b.run", "-r", files, "--query", "q2")
    got = tokret(*words)
    assert got.exit_code == 0, got.stderr
    assert "2 / log2(2)" in got.stdout and "tied" in got.stdout
    assert "nDCG@10 = 1.261860 / 2 (the DCG of the ideal ranking) = 0.630930" in got.stdout
    assert "0.630930 at least, 0.815465 expected, 1.000000 at most" in got.stderr
    told = json.loads(tokret(*words, "--json").stdout)
    assert told["terms"][0]["doc_id"] == "dog" and told["ties"]["most"] == 1


def test_a_measure_of_a_query_that_is_not_judged_is_refused(tokret, files):
    got = tokret("explain-measure", "AP", "--run", files / "a.run", "-r", files, "--query", "q9")
    assert got.exit_code == 2 and "No judged query 'q9'" in got.stderr


def test_eval_gives_a_record_for_every_number(tokret, files):
    told = json.loads(tokret("eval", files / "b.run", "-r", files, "--json").stdout)
    number = told["runs"][0]["numbers"][0]
    assert number["definition"]["name"] == "nDCG" and number["ties"]["range"]["expected"] < 1
    assert number["run"]["sha256"] and told["environment"]["versions"]["tokret"]
