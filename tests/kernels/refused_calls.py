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


BAND, ROOM, LARGEST = np.zeros(1, I32), np.zeros((51, 64), I32), I32(2**31 - 1)
CENTRES = np.zeros((3, 32), np.int8)
SHARES = np.full((51, 64), 2, np.uint8)
FINE, ROWS16, LISTS = np.zeros((6, 32), np.int16), np.zeros((6, 32), np.int8), offsets(0, 1, 2)


def lattice(centroids=CENTRES, shifts=BAND, weights=BAND, shares=SHARES, penalties=ROOM):
    return native.Lattice(centroids, shifts, weights, shares, penalties)


HELD = lattice()


def shorts(*values):
    return np.array(values, np.uint16)


SLOTS, PAIR = np.zeros(6, np.uint16), shorts(0, 2)


def count(fine=FINE, slots=SLOTS, ends=TWO, cells=PAIR, lists=LISTS, threads=1, out=None):
    out = np.zeros((51, 64), I64) if out is None else out
    native.count_symbols("scalar", HELD, fine, fine, slots, ends, cells, lists, threads, out)


def encode(fine=FINE, slots=SLOTS, cells=PAIR, lists=LISTS, ends=None, rows=ROWS16, threads=1):
    ends = np.zeros(2, I64) if ends is None else ends
    arrays = (fine, fine, slots, TWO, cells, lists)
    return native.encode_passages("scalar", HELD, *arrays, threads, ends, rows)


ENDS = np.zeros(2, I64)
WRITTEN = encode(ends=ENDS)
CUTS = np.concatenate([[0], ENDS])


def segment(posted=LISTS, postings=PAIR, lists=LISTS, cells=PAIR, ends=TWO, codes=None, cuts=CUTS):
    codes = WRITTEN if codes is None else codes
    return native.CodedSegment(posted, postings, lists, cells, ends, codes, cuts)


SEGMENT, PASSAGES, OWNERS = segment(), offsets(0, 1), offsets(0, 0)
CODED, TABLE = np.ones((3, 32), np.int8), np.zeros((3, 16), np.uint8)
NEAREST, NEAR_SIMS = np.zeros((3, 2), I32), np.zeros((3, 2), F32)
SUMS, BEST = np.zeros(2, I32), np.zeros((2, 3), F32)


def decode(n=0, rows=ROWS16[:2]):
    return native.decode_passage("scalar", HELD, SEGMENT, n, rows)


def score(query=CODED, scales=THREE, ones=THREE, table=TABLE, nearest=NEAREST, sims=NEAR_SIMS):
    native.score_cells("scalar", query, scales, CENTRES, ones, 1.0, table, nearest, sims)


def probe(nearest=NEAREST, sims=NEAR_SIMS, missing=THREE, allowed=None, most=5):
    native.probe(SEGMENT, nearest, sims, missing, allowed, most)


def interact(table=TABLE, tokens=3, passages=None, sums=SUMS):
    native.interact("scalar", SEGMENT, table, tokens, passages, sums)


def refine(
    query=CODED, owners=SAME[:2], passages=PASSAGES, keep=1, margin=0.0, threads=1, sims=BEST
):
    rest = (np.zeros(2, F32), keep, margin, threads, sims)
    native.refine("scalar", HELD, query, THREE, [SEGMENT], owners, passages, *rest)


# What is refused in each of them is taken as it is.
encode(), count(), decode(), score(), probe(), interact(), refine()

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
    "a lattice without cells": lambda: lattice(centroids=CENTRES[:0]),
    "a lattice of another width": lambda: lattice(centroids=CENTRES[:, :31].copy()),
    "shifts for another width": lambda: lattice(shifts=np.zeros(2, I32)),
    "a shift beyond all contexts": lambda: lattice(shifts=BAND + LARGEST),
    "a weight below zero": lambda: lattice(weights=BAND - 1),
    "shares of too few tables": lambda: lattice(shares=SHARES[:50]),
    "shares that leave states over": lambda: lattice(shares=SHARES - np.uint8(1)),
    "penalties that overflow": lambda: lattice(penalties=ROOM + LARGEST),
    "fewer slots than rows": lambda: count(slots=SLOTS[:5]),
    "a slot beyond the passage's cells": lambda: count(slots=SLOTS + np.uint16(1)),
    "a cell beyond the lattice's": lambda: count(cells=shorts(0, 3)),
    "cells of fewer passages": lambda: count(lists=offsets(0, 2)),
    "rows beyond the lattice": lambda: count(fine=FINE + np.int16(127 * 64 + 1)),
    "counts of fewer tables": lambda: count(out=np.zeros((50, 64), I64)),
    "no threads": lambda: count(threads=0),
    "rows to be said that are fewer": lambda: encode(rows=ROWS16[:5]),
    "fewer ends than passages": lambda: encode(ends=np.zeros(1, I64)),
    "postings beyond those there are": lambda: segment(posted=offsets(0, 1, 3)),
    "cells that begin before the first": lambda: segment(lists=offsets(-1, 1, 2)),
    "codes that end before they begin": lambda: segment(cuts=offsets(0, 90, 80)),
    "codes beyond those there are": lambda: segment(cuts=CUTS + 1),
    "tokens of fewer passages": lambda: segment(ends=offsets(0, 2)),
    "cells between two addresses": lambda: segment(cells=unaligned(PAIR)),
    "a passage beyond the last": lambda: decode(2),
    "a passage before the first": lambda: decode(-1),
    "rows of another passage": lambda: decode(1),
    "a query for cells without a scale": lambda: score(scales=THREE[:2]),
    "cells without a scale": lambda: score(ones=THREE[:2]),
    "a table of fewer cells": lambda: score(table=TABLE[:2]),
    "a table whose rows are no whole number of reads": lambda: score(
        table=np.zeros((3, 15), np.uint8)
    ),
    "more cells than there are": lambda: score(
        nearest=np.zeros((3, 4), I32), sims=np.zeros((3, 4), F32)
    ),
    "none of the cells": lambda: score(nearest=NEAREST[:, :0].copy(), sims=NEAR_SIMS[:, :0].copy()),
    "similarities of fewer cells": lambda: probe(sims=NEAR_SIMS[:2]),
    "too few that are missed": lambda: probe(missing=THREE[:2]),
    "a mask of other passages": lambda: probe(allowed=np.ones(3, np.bool_)),
    "fewer passages than none": lambda: probe(most=-1),
    "a table without a passage's cell": lambda: interact(table=TABLE[:2]),
    "more tokens than the table has": lambda: interact(tokens=17),
    "tokens below zero": lambda: interact(tokens=-1),
    "sums of other passages": lambda: interact(sums=np.zeros(3, I32)),
    "sums of a passage beyond the last": lambda: interact(passages=offsets(0, 2)),
    "sums of a passage before the first": lambda: interact(passages=offsets(0, -1)),
    "an owner that is not there": lambda: refine(owners=OWNERS + 1),
    "an owner below zero": lambda: refine(owners=OWNERS - 1),
    "a passage that its owner lacks": lambda: refine(passages=PASSAGES + 1),
    "a query of another width than the lattice": lambda: refine(query=np.ones((3, 64), np.int8)),
    "best of no passages": lambda: refine(keep=0),
    "a margin that is no number": lambda: refine(margin=float("nan")),
    "reading in no threads": lambda: refine(threads=0),
    "best of fewer tokens": lambda: refine(sims=np.zeros((2, 2), F32)),
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
