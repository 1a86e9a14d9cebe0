import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tokret.cli.hits import Mark, cut, marks, window
from tokret.types import Match

TEXT = "Insomnia is treated by cognitive therapy."


def match(word, similarity=0.9, text=TEXT, shift=0):
    start = text.index(word) + shift
    return Match(0, 1, start, start + len(word), similarity)


def console(**settings):
    return Console(file=io.StringIO(), width=200, highlight=False, markup=False, **settings)


def drawn(settings, found, text=TEXT):
    out = console(**settings)
    out.print(cut(out, text, found, 0, len(text)))
    return out.file.getvalue()


def test_a_piece_of_a_word_marks_the_whole_word():
    assert marks(TEXT, [match("omnia")]) == [Mark(0, 8, 0.9)]


def test_pieces_of_one_word_are_one_mark_with_the_best_similarity():
    assert marks(TEXT, [match("som", 0.6), match("nia", 0.8)]) == [Mark(0, 8, 0.8)]


def test_idle_words_points_and_weak_matches_are_not_marked():
    assert marks(TEXT, [match("is"), match("."), match("therapy", 0.1)]) == []


def test_matches_outside_the_passage_are_left_out():
    assert marks(TEXT, [match("therapy", shift=100)], start=0) == []
    assert marks(TEXT, [match("therapy", shift=100)], start=100) == [Mark(33, 40, 0.9)]


def test_colours_bold_and_asterisks_each_have_their_terminal():
    found = marks(TEXT, [match("therapy")])
    colour = drawn({"force_terminal": True, "color_system": "truecolor"}, found)
    assert "\x1b[1;38;2;0;0;0;48;2;86;180;233mtherapy\x1b[0m" in colour
    plain = drawn({"force_terminal": True, "color_system": "truecolor", "no_color": True}, found)
    assert "\x1b[1;4mtherapy\x1b[0m" in plain
    assert drawn({"color_system": None}, found).strip() == TEXT.replace("therapy", "*therapy*")


def test_a_hostile_passage_reaches_the_terminal_as_text():
    text = "evil \x1b[2J\x9b31m therapy [bold red]x[/] :smile:"
    out = drawn({"color_system": None}, marks(text, [match("therapy", text=text)]), text)
    assert "\x1b" not in out and "\x9b" not in out
    assert "[bold red]x[/] :smile:" in out and "*therapy*" in out


def test_the_window_holds_the_marks():
    text = "word " * 200 + "therapy " + "word " * 200
    found = marks(text, [match("therapy", text=text)])
    start, end = window(text, found)
    assert "therapy" in text[start:end]
    assert text[start:].startswith("word ") and text[:end].endswith("word")


@given(st.text("ab \n", max_size=2000), st.lists(st.integers(0, 1990)), st.integers(100, 500))
def test_a_window_is_never_larger_than_its_room(text, places, room):
    found = [Mark(p, p + 3, 1.0) for p in sorted(places) if p + 3 <= len(text)]
    start, end = window(text, found, room)
    assert 0 <= start <= end <= len(text)
    assert end - start <= room
    assert len(text) <= room or end > start
