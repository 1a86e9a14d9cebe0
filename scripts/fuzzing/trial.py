"""One input to one target: what it did, and which of many faults are the same fault."""

import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzzing import MOST_SECONDS, Target
from tokret.errors import TokretError

INSIDE = ("/tokret/", "/fuzzing/")  # a fault is known by its last line in these


@dataclass
class Tally:
    """What an engine did with a target; ``faults`` holds the shortest input of each."""

    target: Target
    inputs: int = 0
    accepted: int = 0  # inputs that were no error
    faults: dict[str, bytes] = field(default_factory=dict)
    slowest: float = 0.0  # seconds of a processor, of one input
    began: float = field(default_factory=time.process_time)

    def attempt(self, data: bytes) -> str | None:
        """Give an input to the target. Returns its fault, if it is one."""
        self.inputs += 1
        before = time.process_time()
        fault = None
        try:
            self.target.run(data)
            self.accepted += 1
        except TokretError:
            pass
        except Exception as error:
            fault = signature(error)
        taken = time.process_time() - before
        self.slowest = max(self.slowest, taken)
        if fault is None and taken > MOST_SECONDS:
            fault = "takes longer than MOST_SECONDS"
        if fault is not None:
            known = self.faults.get(fault)
            if known is None or len(data) < len(known):
                self.faults[fault] = data
        return fault

    @property
    def seconds(self) -> float:
        """Of a processor, since it began."""
        return time.process_time() - self.began

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "target": self.target.name,
            "inputs": self.inputs,
            "accepted": self.accepted,
            "cpu_seconds": round(self.seconds, 1),
            "slowest_seconds": round(self.slowest, 3),
            "faults": {fault: data.hex() for fault, data in self.faults.items()},
        }


def signature(error: Exception) -> str:
    """The class of an error and the last line of ours that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if any(part in frame.filename for part in INSIDE)]
    last = (ours or frames)[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno} in {last.name}"


@contextmanager
def strictly() -> Iterator[None]:
    """Make every warning an error, as in the tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
