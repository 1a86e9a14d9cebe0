"""Where inputs come from: mutations that hypothesis draws, or atheris, led by coverage.

An engine runs in a process of its own, which may die of what it tries: the input that is
being tried lies in a file.
"""

import atexit
import json
import os
import random
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from fuzzing import MOST_BYTES, Target
from fuzzing.trial import Tally, strictly

ROOM = 2 << 30  # bytes of memory beyond what the process has when it begins
ROUND = 2000  # inputs between looks at the clock


def limit_memory() -> None:
    """Refuse memory far beyond what an input of MOST_BYTES may ask for."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def mutated(target: Target, number: int) -> bytes:
    """An input that the target knows, changed in up to eight places; or any bytes."""
    choose = random.Random(number)
    if target.native:  # its bytes are choices, all of which are sound
        return choose.randbytes(128)
    data = bytearray(choose.choice(target.seeds))
    if choose.random() < 0.05:
        data = bytearray(choose.randbytes(choose.randrange(64)))
    for _ in range(choose.randrange(9)):
        at, size = choose.randint(0, len(data)), choose.randint(1, 12)
        kind = choose.randrange(8)
        if kind == 0:
            del data[at : at + size]
        elif kind == 1:
            data[at : at + size] = choose.randbytes(choose.randint(0, size))
        elif kind == 2 and at < len(data):
            data[at] ^= 1 << choose.randrange(8)
        elif kind == 3:
            data[at:at] = data[at : at + size * 8] * choose.randint(1, 4)
        elif kind == 4 and choose.random() < 0.1:
            del data[at:]
        elif kind == 5:
            other = choose.choice(target.seeds)
            data[at : at + size] = other[choose.randrange(len(other) + 1) :][:size]
        elif target.words:
            data[at : at + choose.randrange(5)] = choose.choice(target.words)
    return bytes(data[:MOST_BYTES])


def by_hypothesis(
    target: Target, seconds: float, first_seed: int = 0, note: Callable[[bytes], None] = bytes
) -> Tally:
    """Try mutations for so many seconds of a processor; the same for the same seed."""
    tally = Tally(target)

    def one(data: bytes) -> None:
        if tally.seconds < seconds:
            note(data)
            tally.attempt(data)

    def numbered(number: int) -> None:
        one(mutated(target, number))

    quiet = settings(
        max_examples=ROUND,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    with strictly():
        for data in target.seeds:
            one(data)
        while tally.seconds < seconds:
            round_seed = seed(first_seed + tally.inputs)
            round_seed(quiet(given(number=st.integers(0, 2**64 - 1))(numbered)))()
    return tally


def by_atheris(target: Target, seconds: float, first_seed: int, report: Path) -> None:
    """Let atheris search, led by the lines of tokret that an input reaches; never returns."""
    import atheris

    corpus = Path(tempfile.mkdtemp(prefix="tokret-corpus-"))
    atexit.register(shutil.rmtree, corpus, ignore_errors=True)
    for i, data in enumerate(target.seeds):
        (corpus / f"seed-{i}").write_bytes(data)
    words = corpus.with_suffix(".dict")
    escaped = ["".join(f"\\x{byte:02x}" for byte in word) for word in target.words]
    words.write_text("".join(f'"{word}"\n' for word in escaped))
    tally = Tally(target)

    told = 0.0

    def one(data: bytes) -> None:
        nonlocal told
        fault = tally.attempt(data)
        if fault or tally.seconds > told + 1:  # atheris ends the process without a word
            told = tally.seconds
            report.write_text(json.dumps(tally.to_dict()))

    options = [
        f"-max_total_time={int(seconds)}",
        f"-max_len={MOST_BYTES}",
        f"-dict={words}",
        f"-seed={first_seed + 1}",
        "-rss_limit_mb=4096",
        "-timeout=600",
        "-verbosity=0",
    ]
    with strictly():
        atheris.Setup([sys.argv[0], *options, str(corpus)], one)
        atheris.Fuzz()
