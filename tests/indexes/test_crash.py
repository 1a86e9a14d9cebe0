"""Writers that are killed, refused by the disk, or cut off: what was committed stays."""

import errno
import os
import random
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))  # where the harness lies

pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
if sys.platform == "win32":
    pytest.skip("processes are forked", allow_module_level=True)

from crash.disk import CALLS, FILLING, Disk, Rule
from crash.story import BACKENDS, Story, differences, faults, leftovers, small
from crash.trials import Bench, killed_often

from tokret.errors import ResourceError, UnconfirmedError
from tokret.indexes import Interrupted, build
from tokret.indexes.uninterrupted import uninterrupted


def fresh(tmp_path_factory):
    """A folder in memory, where there is one: thousands of syncs take no disk's time."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK):
        return Path(tempfile.mkdtemp(dir=memory))
    return tmp_path_factory.mktemp("crash")


@pytest.fixture
def place(tmp_path_factory):
    folder = fresh(tmp_path_factory)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module", params=list(BACKENDS))
def bench(request, tmp_path_factory):
    folder = fresh(tmp_path_factory)
    yield Bench(folder, request.param)
    shutil.rmtree(folder)


def sample(bench, count, seed, calls=CALLS):
    """Steps of a story: those at which a version is replaced in an addition, and some drawn."""
    steps = [(i, s) for i, steps in enumerate(bench.steps) for s in steps if s.call in calls]
    crucial = [(i, s) for i, s in steps if i == 1 and ("CURRENT" in s.name or s.name == "i")]
    return crucial + random.Random(f"{seed} {bench.backend}").sample(steps, count)


def test_a_writer_killed_at_any_step_leaves_the_version_before_or_after(bench):
    killed = 0
    for n, (i, step) in enumerate(sample(bench, 8, 1)):
        kind = "torn" if n % 2 and step.call == "write" else "kill"
        outcome, wrong = bench.kill(i, step.number, kind)
        killed += outcome.killed
        assert not wrong, (bench.story[i].name, str(step), wrong)
    assert killed >= 8


def test_an_index_lives_through_kills_at_random_moments(place):
    results = killed_often(place, BACKENDS["ivf"], 32, random.Random(5), 8)
    assert len(results) >= 8
    assert [wrong for _, wrong in results if wrong] == []


@pytest.mark.parametrize(("name", "calls"), [("ENOSPC", FILLING), ("EIO", CALLS)])
def test_a_call_that_is_refused_costs_nothing(bench, name, calls):
    refused = 0
    for n, (i, step) in enumerate(sample(bench, 3, name, calls)):
        lasting = bool(n % 2)
        outcome, wrong = bench.fail(i, step.number, getattr(errno, name), lasting, calls)
        assert not wrong, (bench.story[i].name, str(step), lasting, wrong)
        refused += not outcome.done
    assert refused


def test_a_write_that_takes_half_is_gone_on_with(bench):
    for i, step in sample(bench, 3, 3, ("write",)):
        _, wrong = bench.short(i, step.number)
        assert not wrong, (bench.story[i].name, str(step), wrong)


@pytest.mark.parametrize("size", [0, 200])
def test_a_limit_of_the_system_on_files_is_told_and_costs_nothing(bench, size):
    outcome, wrong = bench.limit(1, size)
    assert not wrong and outcome.error["kind"] == "ResourceError"


def test_what_was_acknowledged_outlives_a_power_cut(bench):
    rng = random.Random(f"9 {bench.backend}")
    for i in (0, 1, 6, 8):
        for told, wrong in bench.cut(i, rng, 4):
            assert not wrong, (bench.story[i].name, told, wrong)


@pytest.fixture
def index(place):
    """An index of ten documents, and the story that it is in."""
    told = Story(BACKENDS["exact"])
    told.build(10).call(place / "i")
    return place / "i", told


class Refuse(Rule):
    """Refuse some steps of a name, the first of which is the ``first`` of that name."""

    def __init__(self, want, code=errno.EIO, first=1, times=1, after=""):
        super().__init__(1, "fail", code)
        self.want, self.first, self.times, self.after = want, first, times, after
        self.seen = 0

    def hits(self, step):
        if str(step) == self.after:
            self.after = ""
        if self.after or str(step) != self.want:
            return False
        self.seen += 1
        return self.first <= self.seen < self.first + self.times


def test_an_error_says_how_much_was_needed_and_how_much_is_free(index):
    path, told = index
    change = told.add(3)
    rule = Refuse("write i/CURRENT.*.tmp", errno.ENOSPC)
    with Disk(path.parent, rule), pytest.raises(ResourceError, match="No space left") as error:
        change.call(path)
    assert f"{path / 'CURRENT'} (121 bytes were to be written, " in str(error.value)
    assert "bytes are free" in str(error.value) and error.value.exit_code == 5
    assert differences(path, change.before) == [] == leftovers(path)
    change.call(path)
    assert faults(path, change.after) == []


def test_a_commit_that_the_disk_does_not_confirm_is_taken_back(index):
    path, told = index
    change = told.add(3)
    rule = Refuse("fsync i", after="replace i/CURRENT")
    with Disk(path.parent, rule) as disk, pytest.raises(ResourceError) as error:
        change.call(path)
    assert not isinstance(error.value, UnconfirmedError)
    assert [str(step) for step in disk.steps].count("replace i/CURRENT") == 2
    assert differences(path, change.before) == [] == leftovers(path)


def test_where_it_cannot_be_taken_back_the_files_of_both_versions_are_kept(index):
    path, told = index
    change = told.add(3)
    rule = Refuse("fsync i", after="replace i/CURRENT", times=2)
    with Disk(path.parent, rule), pytest.raises(UnconfirmedError, match="It is not known"):
        change.call(path)
    assert len(list(path.glob("manifest-*.json"))) == len(list(path.glob("segments/*"))) == 2
    with Disk(path.parent, Rule()) as disk:
        change.call(path)
    steps = [str(step) for step in disk.steps]
    assert steps.index("replace i/CURRENT") < steps.index("unlink i/manifest-*.json")
    assert faults(path, change.after) == []


def test_rows_whose_sync_failed_are_written_again(place):
    path, name = place / "i", "i/segments/seg-*/vectors.bin"
    change = Story(BACKENDS["exact"]).build(40)

    def traced(rule):
        with small(), Disk(place, rule, record=True) as disk, suppress(ResourceError):
            change.call(path)
        return [event for event in disk.trace if event[1].endswith("vectors.bin")]

    first = traced(Refuse(f"fsync {name}", first=3))
    third = [event[0] for event in first].index("failed")
    held = first[third - 1][2]  # where the rows of the sync that failed begin
    assert [event[0] for event in first[:third]].count("fsync") == 2
    again = traced(Rule())
    assert again[0][0] == "truncate" and again[0][2] == held
    wrote = [event[:3] for event in again if event[0] == "write"]
    assert wrote[0][2] == held
    assert faults(path, change.after) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_pointer_of_a_commit(index, monkeypatch, number):
    path, told = index
    change = told.add(3)
    real = os.replace

    def interrupted(source, target):
        if str(target).endswith("CURRENT"):
            os.kill(os.getpid(), number)
        real(source, target)

    def stop(number, frame):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    former = signal.signal(number, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            change.call(path)
    finally:
        signal.signal(number, former)
    monkeypatch.undo()
    assert differences(path, change.after) == []
    told.add(1).call(path)
    assert leftovers(path) == []


@pytest.fixture
def ctrl_c():
    """Ctrl-C as Python takes it, wherever the tests run: a shell ignores it in the background."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("ctrl_c")
def test_handlers_come_back_after_a_section_that_signals_wait_for():
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ValueError, match="oh"), uninterrupted():
        assert signal.getsignal(signal.SIGINT) is not handlers[0]
        raise ValueError("oh")
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]


def test_a_build_stopped_while_it_is_coded_goes_on(place):
    path = place / "i"
    change = Story(BACKENDS["ivf"]).build(60)
    asked = []

    def stop():
        asked.append(1)
        return len(asked) == 8  # five windows of documents were asked for before

    given = change.call.__closure__
    options = next(c.cell_contents for c in given if isinstance(c.cell_contents, dict))
    with small():
        with pytest.raises(Interrupted, match="all of them are kept"):
            build(path, **options, stop=stop)
        assert (path / "build.json").exists() and not (path / "CURRENT").exists()
        change.call(path)
    assert faults(path, change.after) == []
