"""Decode bytes that no encoder wrote, each before a page that must not be touched.

    python mutated_codes.py WIDTH SEED COUNT    prints how many were rows and how many were not

A read beyond the bytes, or a write beyond the rows, ends the process. What is decoded must be
what the reference decodes, for every 20th.
"""

import ctypes
import mmap
import sys

import numpy as np
from conftest import Lattices

from tokret.kernels import native, stages
from tokret.kernels.coding_reference import decode_passage

PAGE = mmap.PAGESIZE
CELLS = 300
SPARE = [0, 1, 63, 64, 65, 200]  # bytes of a next passage


class Guarded:
    """Bytes that end where a page begins that can be neither read nor written."""

    def __init__(self, most):
        self.size = -(-most // PAGE) * PAGE
        self.memory = mmap.mmap(-1, self.size + PAGE)
        self.bytes = np.frombuffer(self.memory, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if libc.mprotect(self.bytes.ctypes.data + self.size, PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")

    def last(self, count):
        return self.bytes[self.size - count : self.size]


def mutated(rng, code):
    code = code.copy()
    kind = rng.integers(5)
    if kind == 0:
        return code[: rng.integers(len(code))]
    if kind == 1:
        return rng.integers(0, 256, len(code)).astype(np.uint8)
    if kind == 2:  # the streams alone, so that all heads are right
        code[len(code) // 2 :] = rng.choice([0, 255, rng.integers(256)])
        return code
    if kind == 3:  # what says where streams are
        code[rng.integers(min(len(code), 70))] = rng.choice([0, 1, 127, 255])
        return code
    for at in rng.integers(0, len(code), rng.integers(1, 4)):
        code[at] ^= 1 << rng.integers(8)
    return code


def main(width, seed, count):
    rng = np.random.default_rng(seed)
    tables = Lattices.tables(rng, width, CELLS)
    plain, compiled = Lattices.both(tables)
    passages = []
    for length, drawn in [(1, 9), (3, 9), (40, 9), (280, CELLS), (7, CELLS)]:
        batch = Lattices.batch(rng, tables[0], [length], noise=3.0, drawn=drawn)
        passages.append((batch, compiled.encode(batch)[0]))
    most = max(len(code) for _, code in passages)
    code_room, row_room = Guarded(most + max(SPARE)), Guarded(300 * width)
    isas, none = native.cpu_features(), np.zeros(1, np.int64)
    outcomes = {True: 0, False: 0}
    for i in range(count):
        batch, code = passages[rng.choice(5, p=[0.3, 0.3, 0.2, 0.05, 0.15])]
        wrong = mutated(rng, code)
        held = code_room.last(len(wrong) + int(rng.choice(SPARE)))
        held[: len(wrong)] = wrong
        rows = row_room.last(len(batch.fine) * width).view(np.int8).reshape(-1, width)
        block = stages.block(
            compiled,
            none,
            np.empty(0, np.uint16),
            batch.cell_offsets,
            batch.cells,
            batch.token_offsets,
            held,
            np.array([0, len(wrong)], np.int64),
        )
        isa = isas[i % len(isas)]
        read = compiled.native.decode_passage(isa, compiled.held, block.held, 0, rows)
        outcomes[read] += 1
        if i % 20 == 0 and len(rows) < 50:
            try:
                want = decode_passage(plain, wrong.tobytes(), batch.cells, len(rows))
            except ValueError:
                want = None
            if read != (want is not None) or (read and not np.array_equal(rows, want)):
                raise SystemExit(f"{isa} read mutation {i} otherwise than the reference")
    print(outcomes[True], outcomes[False])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
