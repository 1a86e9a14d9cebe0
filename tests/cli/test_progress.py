import json

import pytest

from tokret.cli.progress import ProgressView, duration
from tokret.cli.talk import Talk
from tokret.collections import CorpusStats
from tokret.indexes import Progress


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def told(capsys):
    return capsys.readouterr().err.splitlines()


def reports(view, clock, seconds, a_second=10):
    """One report a second: ten documents of a hundred tokens each."""
    for i in range(1, seconds + 1):
        clock.now += 1
        done = i * a_second
        view(Progress("encode", done, done, done * 100, done * 1000, 1000))


def test_without_a_terminal_there_is_a_line_every_ten_seconds(capsys, clock):
    with ProgressView(Talk(), clock=clock) as view:
        reports(view, clock, 25)
    assert told(capsys) == [
        "encode: 10%, 100 docs, 10 docs/s, 1,000 tokens/s, 0:10, 1:30 left",
        "encode: 20%, 200 docs, 10 docs/s, 1,000 tokens/s, 0:20, 1:20 left",
    ]


def test_json_events_hold_rates_and_the_time_left(capsys, clock):
    with ProgressView(Talk(log_format="json"), clock=clock) as view:
        reports(view, clock, 5)
    event = json.loads(told(capsys)[-1])
    assert event == {
        "event": "progress",
        "stage": "encode",
        "done": 50,
        "total": 1000,
        "documents": 50,
        "passages": 50,
        "tokens": 5000,
        "rate": 10.0,
        "tokens_rate": 1000.0,
        "elapsed_s": 5.0,
        "eta_s": 95.0,
        "truncated": 0,
        "skipped": 0,
    }


@pytest.mark.parametrize("talk", [Talk(quiet=True), Talk(progress=False)])
def test_quiet_and_no_progress_show_none(capsys, clock, talk):
    with ProgressView(talk, clock=clock) as view:
        reports(view, clock, 60)
    assert told(capsys) == []


def test_the_reader_of_a_large_corpus_knows_how_much_is_left(capsys, clock):
    stats = CorpusStats(bytes_read=0, total_bytes=100 << 20, skipped=3, quarantined=1)
    with ProgressView(Talk(), stats, clock=clock) as view:
        for _ in range(10):
            stats.bytes_read += 1 << 20
            clock.now += 1
            view(Progress("encode", 10, 10, 0, 0))
    assert told(capsys) == ["encode: 10%, 10 docs, 4 skipped, 0:10, 1:30 left"]


def test_a_rate_forgets_what_was_long_ago(clock):
    with ProgressView(Talk(), clock=clock) as view:
        reports(view, clock, 5, a_second=1000)
        for i in range(30):
            clock.now += 1
            view(Progress("encode", 5000 + i, 0, 0, 0))
            if i == 10:
                assert view.rates()[0] > 100
        assert view.rates()[0] == 1


def test_a_clock_that_stands_still_divides_nothing(clock):
    with ProgressView(Talk(), clock=clock) as view:
        view(Progress("encode", 1, 1, 1, 1, 10))
        view(Progress("encode", 2, 2, 2, 2, 10))
        assert view.rates() == (0.0, 0.0, 0.0)
        assert view.left(Progress("encode", 2, 2, 2, 2, 10)) is None


def test_a_forecast_of_many_days_is_none(clock):
    with ProgressView(Talk(), clock=clock) as view:
        view(Progress("encode", 1, 1, 1, 1, 10**9))
        clock.now += 10
        view(Progress("encode", 2, 2, 2, 2, 10**9))
        assert view.left(Progress("encode", 2, 2, 2, 2, 10**9)) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (750, "12:30"), (10_800, "3:00:00")]
)
def test_durations_read_as_clocks_do(seconds, text):
    assert duration(seconds) == text
