"""Filters are read as they are written, and allow what plain Python would allow."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tokret.errors import UsageError
from tokret.fields import Fields
from tokret.indexes.filter import Filter
from tokret.indexes.filter_text import MAX_DEPTH, MAX_TEXT, parse
from tokret.indexes.filter_tree import And, Constant, Equals, Exists, Not, Or, Range
from tokret.indexes.segment import DOCUMENT_COLUMNS as LAYOUT
from tokret.indexes.segment import Segment, SegmentWriter

NAMES = ("a", "b", "год")
BIG = 1 << 53  # beyond it, not every whole number is a float
texts = st.text(st.sampled_from("aé\U0001f98a \"'\\\n\t"), max_size=3)
ints = st.sampled_from([0, 1, 2, -1, BIG, BIG + 1, BIG + 2, (1 << 63) - 1, -(1 << 63)])
floats = st.sampled_from(
    [0.0, -0.0, 0.5, 1.0, -1.5, float(BIG), 2.0**63, -(2.0**63), 1e300, 5e-324]
)
bools = st.booleans()
scalars = st.one_of(texts, ints, floats, bools)
values = st.one_of(scalars, *(st.lists(kind, max_size=3) for kind in (texts, ints, floats, bools)))
documents = st.lists(st.dictionaries(st.sampled_from(NAMES), values, max_size=3), max_size=6)
names = st.sampled_from(NAMES)
bounds = st.one_of(
    *(st.tuples(st.none() | kind, st.none() | kind) for kind in (texts, ints | floats))
).filter(lambda pair: pair != (None, None))
leaves = st.one_of(
    st.builds(Equals, names, st.lists(scalars, max_size=3).map(tuple)),
    st.builds(lambda n, b, o: Range(n, *b, o), names, bounds, st.tuples(bools, bools)),
    st.builds(Exists, names),
    st.builds(Constant, bools),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


def plain(node, document):
    """What the filter language says, in as many words."""
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, Not):
        return not plain(node.inner, document)
    if isinstance(node, And):
        return all(plain(part, document) for part in node.parts)
    if isinstance(node, Or):
        return any(plain(part, document) for part in node.parts)
    held = document.get(node.name, ())
    held = held if isinstance(held, tuple) else (held,)
    if isinstance(node, Exists):
        return bool(held)
    if isinstance(node, Equals):
        return any(same(x, y) and x == y for x in held for y in node.values)
    return any(between(x, node) for x in held)


def same(x, y):
    """Whether both are texts, or both numbers, or both truth values."""
    return kind(x) == kind(y)


def kind(x):
    return bool if isinstance(x, bool) else str if isinstance(x, str) else float


def between(x, node):
    if not same(x, node.values[0]) or isinstance(x, bool):
        return False
    low = node.low is None or (x > node.low if node.opened[0] else x >= node.low)
    high = node.high is None or (x < node.high if node.opened[1] else x <= node.high)
    return low and high


@pytest.fixture(scope="module")
def segments(tmp_path_factory):
    """Make a segment of documents with these fields."""

    def make(rows):
        path = tmp_path_factory.mktemp("s") / "seg-0123456789abcdef"
        writer = SegmentWriter(path, "documents", LAYOUT)
        ids = [str(i) for i in range(len(rows))]
        writer.add_documents(ids, ids, [np.zeros((1, 2), np.int64)] * len(rows), rows)
        return Segment(path, writer.seal(ids))

    return make


@given(documents, trees)
@example([{"a": BIG + 1}], Range("a", float(BIG), None, (True, False)))
@example([{"a": float(BIG)}], Range("a", None, BIG + 1, (False, True)))
@example([{"a": True}, {"a": 1}, {"a": 1.0}], Equals("a", (1,)))
def test_a_filter_allows_what_plain_python_allows(segments, rows, tree):
    rows = [Fields(row) for row in rows]
    mask = tree.mask(segments(rows).fields)
    assert mask.tolist() == [plain(tree, row) for row in rows]


NUMBERS = [
    *(0, 1, 2, -1, BIG, BIG + 1, BIG + 2, (1 << 63) - 1, -(1 << 63)),
    *(-0.0, 0.5, 1.0, -1.5, float(BIG), 2.0**63, -(2.0**63), 1e300, 5e-324),
]
TEXTS = ["", "a", "aa", "b", "\uffff", "\U0001f98a"]


@pytest.mark.parametrize("held", [NUMBERS, TEXTS], ids=["numbers", "texts"])
def test_every_value_compares_with_every_other_as_in_python(segments, held):
    rows = [{"a": value} for value in held]
    table = segments([Fields(row) for row in [*rows, {"a": True}, {}]]).fields
    rows += [{"a": True}, {}]
    for low in held:
        trees = [Equals("a", (low,)), Range("a", low, None, (True, True)), Range("a", None, low)]
        trees += [
            Range("a", low, high, opened)
            for high in held
            for opened in [(False, False), (True, False), (False, True), (True, True)]
        ]
        for tree in trees:
            assert tree.mask(table).tolist() == [plain(tree, row) for row in rows], str(tree)


@given(trees)
def test_a_filter_reads_as_it_is_written(tree):
    again = parse(str(tree))
    assert str(again) == str(tree)
    assert again == parse(str(again))


@given(documents, trees)
def test_what_is_read_back_allows_the_same(segments, rows, tree):
    table = segments([Fields(row) for row in rows]).fields
    assert parse(str(tree)).mask(table).tolist() == tree.mask(table).tolist()


PIECES = [
    *("a", "год", "and", "or", "not", "in", "between", "exists", "true", "False", "OR"),
    *("==", "!=", "<", "<=", ">", ">=", "=", "&&", "(", ")", "[", "]", ",", '"x"', "'", "\\"),
    *("1", "-2.5e3", "99999999999999999999", "1e999", "\ud800", "\0", "é́", " ", "\n"),
]


@given(st.text(max_size=30) | st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join))
def test_whatever_is_written_is_a_filter_or_a_request_that_cannot_be_served(text):
    try:
        tree = parse(text)
    except UsageError as error:
        assert str(error).splitlines()[-1].strip() == "^"
    else:
        assert str(parse(str(tree))) == str(tree)


@pytest.mark.parametrize("opening", ["(", "not ", "not (", "[", '"', "a in ["])
def test_the_depth_and_the_length_are_bounded(opening):
    with pytest.raises(UsageError):
        parse(opening * 10_000)
    with pytest.raises(UsageError, match="at most 65,536"):
        parse(opening + " " * MAX_TEXT)
    deepest = "(" * MAX_DEPTH + "a == 1" + ")" * MAX_DEPTH
    assert parse(deepest) == Equals("a", (1,))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("year == 2019", "year == 2019"),
        ("2019 == year", "year == 2019"),
        ("year != 2019", "year != 2019"),
        ("not year == 2019", "year != 2019"),
        ("year<2019", "year < 2019"),
        ("2019 > year", "year < 2019"),
        ("year >= -1.50", "-1.5 <= year"),
        ("2019 <= year < 2022", "2019 <= year < 2022"),
        ("2022 > year >= 2019", "2019 <= year < 2022"),
        ("year between 2019 and 2022 and a == 1", "2019 <= year <= 2022 and a == 1"),
        ("lang in ['en', \"de\"]", 'lang in ["en", "de"]'),
        ('lang in ("en",)', 'lang == "en"'),
        ('lang not in ["en", "de"]', 'lang not in ["en", "de"]'),
        ("lang in []", "lang in []"),
        ("a == 1 or b == 2 and not c == true", "a == 1 or (b == 2 and c != true)"),
        ("(a == 1 OR b == 2) AND NOT EXISTS c", "(a == 1 or b == 2) and not exists c"),
        (r"a == 'it\'s \\ \n'", 'a == "it\'s \\\\ \\n"'),
        ("true", "true"),
        ("false or not True", "false or not true"),
    ],
)
def test_one_spelling_of_each_filter(text, want):
    assert str(parse(text)) == want


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("", "it is empty", 0),
        ("year >= and", "got and, wanted a value", 8),
        ("year = 2019", "= is unknown; write ==", 5),
        ("lang == en", "got en, wanted a value; texts stand in quotes", 8),
        ("a && b == 1", "&& is unknown; write and", 2),
        ("a < true", "true and false have no order", 4),
        ("1 < a > 3", "must point the same way", 6),
        ("1 < a < 'b'", "between two numbers or two texts", 8),
        ("a > 1 < 3", "the field in the middle", 6),
        ("(a == 1", "wanted ')'", 7),
        ("a == 1 b", "wanted 'and', 'or' or the end", 7),
        ("a in [1 2]", "wanted ',' or ']'", 8),
        ("a in 1", "wanted a list in brackets", 5),
        ("a == [1]", "for several, write 'in'", 5),
        ("a == 'b", "no closing '", 5),
        (r"a == 'b\x'", "an unknown escape", 7),
        ("a == 9223372036854775808", "beyond 64 bits", 5),
        ("a == 1e999", "beyond 64 bits", 5),
        ("a == '\ud800'", "lone surrogate", 5),
        ("a not == 1", "wanted 'in'", 6),
        ("a", "wanted == != <", 1),
        ("a == b == 1", "texts stand in quotes", 5),
        ("in == 1", "wanted a test of a field", 0),
        ("a.b == 1", "'.' has no meaning here", 1),
    ],
)
def test_a_fault_is_named_with_its_place(text, message, place):
    with pytest.raises(UsageError) as caught:
        parse(text)
    said, shown, caret = str(caught.value).split("\n")
    assert message in said and caret == " " * (2 + place) + "^"
    assert len(shown) == 2 + len(text)


def test_a_long_filter_is_shown_around_the_fault():
    with pytest.raises(UsageError) as caught:
        parse("a == 1 and " * 100 + "b ? 1" + " and a == 1" * 100)
    _, shown, caret = str(caught.value).split("\n")
    assert len(shown) < 80 and shown[caret.index("^")] == "?"


@pytest.mark.parametrize(
    ("where", "want"),
    [
        ({}, "true"),
        ({"a": 1}, "a == 1"),
        ({"a": [1, 2], "b": "x"}, 'a in [1, 2] and b == "x"'),
        ({"a": {"b", "a"}}, 'a in ["a", "b"]'),
        ({"a": {"in": np.arange(2)}}, "a in [0, 1]"),
        ({"a": []}, "a in []"),
        ({"a": {">=": 1, "<": 3}}, "1 <= a < 3"),
        ({"a": {">": np.float32(0.5)}}, "0.5 < a"),
        ({"a": {"between": ["x", "y"]}}, '"x" <= a <= "y"'),
        ({"a": {"!=": 1, "not in": [2, 3]}}, "a != 1 and a not in [2, 3]"),
        ({"a": {"exists": True}, "b": {"exists": False}}, "exists a and not exists b"),
        ({"or": [{"a": 1}, {"b": 2, "c": 3}]}, "a == 1 or (b == 2 and c == 3)"),
        ({"not": {"or": [{"a": 1}, {"b": 2}]}}, "not (a == 1 or b == 2)"),
        ({"and": [{"a": {"<": 1}}, {"a": {">": 0}}]}, "a < 1 and 0 < a"),
        ({"or": []}, "false"),
    ],
)
def test_a_mapping_is_a_filter(where, want):
    assert str(Filter.of(where)) == want == str(Filter.of(want))
    assert Filter.of(Filter.of(where)) == Filter.of(where)


def deep(levels):
    return {"not": deep(levels - 1)} if levels else {"a": 1}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (3, "a text such as 'year >= 2019', or a mapping; got 3"),
        ({"a": None}, "'a' is None; for documents without the field write {'exists': False}"),
        ({"a": {"=>": 3}}, "no operator '=>'. Did you mean '>'?"),
        ({"a": {"$gte": 3}}, "no operator '$gte'"),
        ({"a": float("nan")}, "field 'a' is nan"),
        ({"a": {"<": True}}, "no order"),
        ({"a": {"<": 1, ">": "x"}}, "between two numbers or two texts"),
        ({"a": {"<": 1, "<=": 2}}, "one lower and one upper bound"),
        ({"a": {"between": [1]}}, "between takes two bounds"),
        ({"a": {"in": "abc"}}, "in takes a list"),
        ({"a": {"==": [1]}}, "'a' cannot be [1]"),
        ({"a": {"exists": 1}}, "exists takes true or false"),
        ({"a": {"==": object()}}, "field 'a' holds object"),
        ({"a-b": 1}, "'a-b' cannot name a field"),
        ({"or": {"a": 1}}, "'or' takes a list of mappings"),
        ({"not": ["x"]}, "'not' takes mappings"),
        (deep(17), "more than 16 levels"),
        ({"a": list(range(1 << 16))}, "more than 65,536 values"),
    ],
)
def test_a_mapping_that_is_no_filter_is_refused_in_words(where, message):
    with pytest.raises(UsageError) as caught:
        Filter.of(where)
    assert message in str(caught.value)


def test_the_deepest_mapping_reads_as_it_is_written():
    tree = Filter.of(deep(16)).tree
    assert parse(str(tree)) == tree
    wide = {"a": 1}
    for _ in range(8):
        wide = {"not": {"or": [wide, {"b": 2}]}}
    assert parse(str(Filter.of(wide))) == Filter.of(wide).tree


ROWS = [{"year": 2019, "lang": "en"}, {"year": 2020.5, "open": True}, {"lang": ["de", "fr"]}]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("yaer == 2019", "no document has a field 'yaer'. Did you mean 'year'? Known: lang, open"),
        ('year == "2019"', 'year holds numbers and whole numbers, never such as "2019"'),
        ("lang > 3", "lang holds texts, never such as 3"),
        ("open == 1", "open holds true or false, never such as 1"),
        ("year != true", "never such as true"),
        ("not exists nothing", "no document has a field 'nothing'"),
        ({"open": "yes"}, 'never such as "yes"'),
    ],
)
def test_a_test_that_nothing_could_pass_is_refused(segments, where, message):
    table = segments([Fields(row) for row in ROWS]).fields
    with pytest.raises(UsageError) as caught:
        Filter.of(where).check([table])
    assert message in str(caught.value)
    if isinstance(where, str):
        assert str(caught.value).endswith("^")


@pytest.mark.parametrize("where", ["year in [1, 'x']", "year in []", "lang == 'zz'", "true"])
def test_a_test_that_something_could_pass_is_not_refused(segments, where):
    Filter.of(where).check([segments([Fields(row) for row in ROWS]).fields])


def test_without_any_fields_the_error_says_so(segments):
    with pytest.raises(UsageError, match="The index holds no fields"):
        Filter.of("a == 1").check([segments([Fields()]).fields])
