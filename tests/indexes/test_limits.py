"""Memory that runs out, and numbers beyond 32 bits."""

import subprocess
import sys

import numpy as np
import pytest

from tokret.errors import IndexCorruptError
from tokret.indexes import Index, verify
from tokret.indexes.files import BLOCK, Column, block_digest

STARVED = """
import resource, sys
import numpy as np
from tokret.errors import ResourceError
from tokret.indexes import Index
index = Index.open(sys.argv[1])
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
rows = np.full((200_000, 64), 0.125, np.float32)  # 51 MB, and several copies of it on the way
resource.setrlimit(resource.RLIMIT_AS, (used + (120 << 20),) * 2)
try:
    index.add([(f"n{i}", "x") for i in range(8)], vectors=(rows for _ in range(8)))
    print("added")
except (MemoryError, ResourceError) as error:
    print(type(error).__name__)
print(len(index), [hit.doc_id for hit in index.search(np.eye(64, dtype=np.float32)[:1])])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit of memory")
@pytest.mark.parametrize("backend", ["exact", "ivf"])
def test_memory_that_runs_out_ends_an_addition_and_changes_nothing(tmp_path, backend):
    path = tmp_path / "i"
    index = Index.create(path, encoder="precomputed(dim=64)", backend=backend)
    index.add([("a", "x")], vectors=[np.ones((3, 64))])
    done = subprocess.run(
        [sys.executable, "-c", STARVED, str(path)], capture_output=True, text=True
    )
    said, *rest = done.stdout.splitlines()
    assert said in ("MemoryError", "ResourceError"), done.stdout + done.stderr
    assert rest == ["1 ['a']"]
    assert verify(path) == [] and len(list((path / "segments").iterdir())) == 1
    index.add([("b", "x")], vectors=[np.ones((3, 64))])  # and no lock is left


def test_a_column_beyond_32_bits_is_read_and_checked_at_its_very_end(tmp_path):
    rows = (1 << 31) + (
        BLOCK >> 1
    )  # of 2 bytes: 4 GiB and a MiB, sparse, so that it takes no space
    zeros, last = block_digest(bytes(BLOCK)), bytearray(BLOCK)
    last[-2:] = (1234).to_bytes(2, "little")
    with open(tmp_path / "c.bin", "wb") as file:
        file.truncate(2 * rows)
        file.seek(-2, 2)
        file.write(last[-2:])
    blocks = (zeros,) * (2 * rows // BLOCK - 1)
    column = Column("<u2", (rows,), (*blocks, block_digest(last)))
    held = column.hold(tmp_path / "c.bin")
    assert len(held) == rows > 1 << 31 and held[rows - 1] == 1234 and held[-2] == 0
    assert column.checked_rows(held, tmp_path / "c.bin", rows - 3, rows).tolist() == [0, 0, 1234]
    ends = np.array([[0, 1], [rows - 1, rows]], np.int64)
    read = np.concatenate(list(column.read_rows(tmp_path / "c.bin", ends)))
    assert read.tolist() == [0, 1234]
    wrong = Column("<u2", (rows,), (*blocks, zeros))
    with pytest.raises(IndexCorruptError, match=f"damaged between byte {1 << 32} and"):
        wrong.checked_rows(held, tmp_path / "c.bin", rows - 1, rows)
