"""The compiled functions themselves, without the checks of native.py before them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tokret import kernels
from tokret.errors import InputError
from tokret.kernels import reference
from tokret.types import Tokens

SAMPLE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2] / "scripts")!r})
from fuzzing.engines import mutated
from fuzzing.natives import NATIVES
from fuzzing.trial import Tally, strictly
for target in NATIVES:
    tally = Tally(target)
    with strictly():
        for number in range(300):
            tally.attempt(mutated(target, number))
    if tally.faults or not tally.accepted:
        print(tally.to_dict())
"""
compiled = pytest.mark.skipif(not kernels.NATIVE, reason="the compiled kernels are not installed")


@compiled
def test_arguments_that_do_not_fit_are_refused_by_the_compiled_functions_too():
    command = [sys.executable, str(Path(__file__).with_name("refused_calls.py"))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stderr}, after {done.stdout.splitlines()[-1:]}"


@compiled
def test_whatever_the_arguments_the_compiled_functions_return_or_raise():
    done = subprocess.run([sys.executable, "-c", SAMPLE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("offsets", [[6], [0, 7, 6], [], [-1, 6]])
def test_aggregation_refuses_offsets_that_do_not_rise_from_zero(offsets):
    tokens, sims = np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32)
    for aggregate in (reference.xtr_aggregate, kernels.xtr_aggregate):
        with pytest.raises(InputError, match="rise from 0"):
            aggregate(tokens, sims, np.array(offsets, np.int64), np.zeros(1, np.float32))


def test_int8_rows_whose_products_might_not_fit_are_refused():
    docs = Tokens(np.ones((1, 65_537), np.int8), np.array([0, 1]), np.ones(1, np.float32))
    for maxsim in (reference.maxsim, kernels.maxsim):
        with pytest.raises(InputError, match="65536 wide"):
            maxsim(np.ones((1, 65_537), np.float32), docs)
