"""Call the compiled functions with what they must refuse, and print each that they did not.

A function that does not refuse may read or write where it must not, and end this process.
"""

import numpy as np

from tokret.kernels import _native as native

I64, I32, F32 = np.int64, np.int32, np.float32


def offsets(*values):
    return np.array(values, I64)


def unaligned(array):
    out = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    out[...] = array
    return out


def read_only(array):
    array.flags.writeable = False
    return array


QUERY, ROWS, TWO = np.ones((3, 4), F32), np.ones((6, 4), F32), offsets(0, 2, 6)
CODES, SCALES, THREE = np.ones((6, 4), np.int8), np.ones(6, F32), np.ones(3, F32)
SCORES, NUMBERS = np.zeros(2, F32), np.zeros(6, I32)
TOKENS, SIMS = np.zeros((3, 5), I64), np.zeros((3, 5), F32)
SAME = np.zeros(3, I64)


def maxsim(query=QUERY, scaled=None, rows=ROWS, scales=None, ends=TWO, scores=SCORES):
    native.maxsim("scalar", query, scaled, rows, scales, ends, 1, scores)


def token_topk(ends=TWO, alive=None, tokens=TOKENS, sims=SIMS):
    native.token_topk("scalar", QUERY, None, ROWS, None, ends, alive, 1, tokens, sims)


def aggregate(tokens=TOKENS, sims=SIMS, ends=TWO, missing=THREE):
    native.xtr_aggregate(tokens, sims, ends, missing)


def nearest(rows=CODES, centroids=CODES, ends=None, centres=None, probes=1, numbers=NUMBERS):
    out = np.zeros(6, I32)
    native.nearest("scalar", rows, centroids, ends, centres, probes, 1, numbers, out)


def cell_sums(rows=CODES, numbers=NUMBERS, sums=None):
    native.cell_sums(rows, numbers, 1, np.zeros((2, 4), I32) if sums is None else sums)


CALLS = {
    "scores of another number": lambda: maxsim(scores=np.zeros(1, F32)),
    "scores in float64, which a copy would take along": lambda: maxsim(scores=np.zeros(2)),
    "scores that cannot be written": lambda: maxsim(scores=read_only(np.zeros(2, F32))),
    "scores with gaps": lambda: maxsim(scores=np.zeros(4, F32)[::2]),
    "scores over the offsets": lambda: maxsim(ends=SAME, scores=SAME.view(F32)[:2]),
    "offsets that fall": lambda: maxsim(ends=offsets(0, 7, 6)),
    "offsets beyond the rows": lambda: maxsim(ends=offsets(0, 2, 7)),
    "offsets that end early": lambda: maxsim(ends=offsets(0, 2, 5)),
    "offsets below zero": lambda: maxsim(ends=offsets(-1, 2, 6)),
    "offsets whose differences overflow": lambda: maxsim(ends=offsets(0, -(2**63), 6)),
    "no offsets": lambda: maxsim(ends=offsets()),
    "offsets between two addresses": lambda: maxsim(ends=unaligned(TWO)),
    "rows between two addresses": lambda: maxsim(rows=unaligned(ROWS)),
    "rows in float64": lambda: maxsim(rows=np.ones((6, 4))),
    "rows in big-endian": lambda: maxsim(rows=ROWS.astype(">f4")),
    "rows one after another backwards": lambda: maxsim(rows=ROWS[::-1]),
    "int8 without scales": lambda: maxsim(query=CODES[:3], rows=CODES),
    "int8 with too few scales": lambda: maxsim(CODES[:3], THREE, CODES, SCALES[:5]),
    "int8 with a query in float32": lambda: maxsim(QUERY, THREE, CODES, SCALES),
    "int8 too wide": lambda: maxsim(
        np.ones((3, 65_537), np.int8), THREE, np.ones((6, 65_537), np.int8), SCALES
    ),
    "a query of another width": lambda: maxsim(query=np.ones((3, 5), F32)),
    "a mask of another length": lambda: token_topk(alive=np.ones(1, np.bool_)),
    "more tokens than there are": lambda: token_topk(
        tokens=np.zeros((3, 7), I64), sims=np.zeros((3, 7), F32)
    ),
    "fewer similarities than tokens": lambda: token_topk(sims=np.zeros((3, 4), F32)),
    "tokens of fewer queries": lambda: token_topk(tokens=TOKENS[:2], sims=SIMS[:2]),
    "live tokens of offsets that fall": lambda: native.live_tokens(offsets(0, 5, 2), None),
    "a token that no passage has": lambda: aggregate(tokens=TOKENS + 6),
    "a token below zero": lambda: aggregate(tokens=TOKENS - 1),
    "a token of no passages": lambda: aggregate(ends=offsets(6)),
    "too few that are missing": lambda: aggregate(missing=THREE[:2]),
    "no centroids": lambda: nearest(centroids=CODES[:0]),
    "rows without width": lambda: nearest(CODES[:, :0], CODES[:, :0]),
    "groups that end early": lambda: nearest(ends=offsets(0, 5), centres=CODES[:1]),
    "groups without centres": lambda: nearest(ends=offsets(0, 6)),
    "no probes": lambda: nearest(ends=offsets(0, 6), centres=CODES[:1], probes=0),
    "too few numbers": lambda: nearest(numbers=NUMBERS[:5]),
    "sums of another width": lambda: cell_sums(sums=np.zeros((2, 3), I32)),
    "sums of fewer numbers than rows": lambda: cell_sums(numbers=NUMBERS[:5]),
    "an hour of multiplying": lambda: native.multiply_add_peak("scalar", "fp32", 3600.0),
    "time without end": lambda: native.multiply_add_peak("scalar", "fp32", float("nan")),
    "an instruction set that is not there": lambda: native.multiply_add_peak("x", "fp32", 0.0),
}

if __name__ == "__main__":
    for name, call in CALLS.items():
        print(name, flush=True)
        try:
            call()
        except (TypeError, ValueError):
            continue
        raise SystemExit(f"not refused: {name}")
