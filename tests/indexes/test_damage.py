"""A sample of scripts/damage_test.py: damage is found, attacks are refused or answered."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "damage_test.py"
KINDS = ["exact-fp16,bm25", "ivf-codes,unfinished"]


@pytest.mark.parametrize("kinds", KINDS)
def test_no_damage_is_silent_and_none_ends_the_process(kinds, tmp_path):
    if "ivf" in kinds:
        pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
    out = tmp_path / "damage.json"
    command = [sys.executable, str(SCRIPT), "--mutations", "60", "--seed", "5", "--kinds", kinds]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
    record = json.loads(out.read_text())
    assert done.returncode == 0, (record["cases"], done.stderr[-2000:])
    assert record["accidents"] == record["found"] + record["harmless"]
    assert record["found"] > 20 and record["refused"] > 5
