"""Searching where nothing can be written: a file system mounted read-only, no home."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tokret.indexes import Index

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((ROOT / "indexes" / "golden").glob("v*/*"))
# Everything on the file system that holds the index, the program and /tmp, for this child alone.
REMOUNT = 'mount --make-rprivate / && mount -o remount,bind,ro / && exec "$@"'
WRITES = """
import os, sys
wrote = []
def note(event, args):
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    if event == "open" and isinstance(args[2], int) and args[2] & writing:
        wrote.append(str(args[0]))
    if event in ("os.mkdir", "os.rename", "os.remove", "os.chmod", "os.truncate"):
        wrote.append(event)
sys.addaudithook(note)
"""
SEARCH = (
    WRITES
    + """
import json
from tokret.indexes import Index, verify
found = {}
for folder in sys.argv[1:]:
    with Index.open(folder, verify="full") as index:
        if index.encoder is None:
            found[folder] = [hit.doc_id for hit in index.search("red herring")]
        else:
            width = index.encoder.identity.dim
            found[folder] = [hit.doc_id for hit in index.search([[1.0] * width], certify=True)]
        found[folder] += [index.document("d2").text, len(verify(folder))]
print(json.dumps({"found": found, "wrote": [w for w in wrote if w != os.devnull]}))
"""
)


@pytest.fixture(scope="module")
def read_only():
    """Run words in a process for which the whole file system is read-only."""
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    for flags in (["-m"], ["-r", "-m"]):
        prefix = ["unshare", *flags, "sh", "-c", REMOUNT, "sh"]
        probe = subprocess.run([*prefix, "sh", "-c", f"! touch {ROOT}/probe"], capture_output=True)
        if probe.returncode == 0:
            break
    else:
        pytest.skip("this machine lets nobody mount read-only")

    def run(*words, **env):
        kept = {k: v for k, v in os.environ.items() if k not in ("HOME", "TMPDIR", "COLUMNS")}
        kept |= {"PYTHONDONTWRITEBYTECODE": "1", **env}
        return subprocess.run(
            [*prefix, sys.executable, *map(str, words)], capture_output=True, text=True, env=kept
        )

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("ro") / "index"
    Index.create(path).add([("whale", "the blue whale"), ("tea", "a cup of tea")])
    return path


@pytest.mark.parametrize("home", [None, "/", "/nowhere/at/all"])
def test_a_read_only_file_system_is_searched_with_any_home_or_none(read_only, folder, home):
    env = {} if home is None else {"HOME": home}
    done = read_only("-m", "tokret", "search", folder, "largest animal", "-k", "1", "-q", **env)
    assert done.returncode == 0 and "whale" in done.stdout, done.stderr
    assert done.stderr == ""


def test_indexes_of_every_kind_are_searched_and_verified_without_a_try_to_write(
    read_only, tmp_path
):
    pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
    words = ["-c", SEARCH, *GOLDEN]
    there = read_only(*words)
    assert there.returncode == 0, there.stderr
    there = json.loads(there.stdout)
    assert there["wrote"] == []
    here = subprocess.run([sys.executable, *map(str, words)], capture_output=True, check=True)
    assert there["found"] == json.loads(here.stdout)["found"]
    assert all(len(found) > 2 and found[-1] == 0 for found in there["found"].values())


def test_a_change_of_a_read_only_index_says_why_and_what_to_do(read_only, folder):
    done = read_only("-m", "tokret", "delete", folder, "tea")
    assert done.returncode == 2
    assert "cannot be written (Read-only file system)" in done.stderr
    assert "copy it elsewhere" in done.stderr and "Traceback" not in done.stderr


def test_doctor_tells_of_a_machine_where_nothing_can_be_written(read_only):
    done = read_only("-m", "tokret", "doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0, checks
    assert checks["temporary"]["status"] == "warn" and "TMPDIR" in checks["temporary"]["advice"]
