import getpass
import json
import platform
import re
import socket
import subprocess
import sys

import numpy as np

import tokret
from tokret.evaluation import record


def test_an_environment_names_versions_and_machine():
    found = record.environment()
    assert json.loads(json.dumps(found)) == found
    assert found["versions"]["tokret"] == tokret.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["python"] == platform.python_version()
    assert set(found["machine"]) == {
        *("cpu", "architecture", "cores", "instructions", "kernels", "os", "python"),
    }
    assert found["machine"]["cores"] >= 1 and found["machine"]["cpu"]


def test_an_environment_names_no_user_host_or_path():
    text = json.dumps(record.environment())
    assert socket.gethostname() not in text
    assert f'"{getpass.getuser()}"' not in text
    assert not re.search(r'"(/|[A-Z]:\\)', text)


def test_a_package_that_is_absent_has_no_version(monkeypatch):
    monkeypatch.setattr(record, "PACKAGES", ("no-such-package",))
    assert record.versions()["no-such-package"] is None


def test_time_is_utc_to_the_second():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record.now())


def test_importing_evaluation_loads_nothing_heavy():
    heavy = "{'ir_measures', 'pytrec_eval', 'onnxruntime', 'bm25s', 'torch', 'rich', 'ir_datasets'}"
    code = f"import sys, tokret.evaluation; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
