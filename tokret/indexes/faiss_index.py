"""One faiss index: made from its factory string, trained, stored as bytes, searched.

Source  Johnson, Douze, Jégou: Billion-scale similarity search with GPUs. arXiv:1702.08734;
        Douze et al.: The Faiss library. arXiv:2401.08281.
Does    Takes the factory strings that FACTORY describes, by inner product.
Departs A PQ is not reordered for polysemous search, which is not used here and costs most of
        its training; what learns a rotation is built on one thread, as otherwise the result
        depends on their number.
"""

from __future__ import annotations

import os
import re
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tokret.errors import IndexCorruptError, MissingExtraError, ResourceError, UsageError
from tokret.indexes.files import Array
from tokret.locks import Lock
from tokret.types import Floats, Ints

FACTORY = re.compile(
    r"((OPQ[1-9]\d{0,2}(_[1-9]\d{0,3})?|PCAR?[1-9]\d{0,3}|RR([1-9]\d{0,3})?),)?"
    r"(IVF[1-9]\d{0,6},)?"
    r"(Flat|SQ[468]|SQfp16|SQbf16|RaBitQ([1-9]|fs)?"
    r"|PQ[1-9]\d{0,2}(x([4-9]|1[0-2]))?(np)?|PQ[1-9]\d{0,2}x4fsr?)"
)
KNOWN = "[OPQm,|PCAd,|RR,] [IVFn,] Flat, SQ8, SQfp16, SQ4, PQm, PQmx4fs, RaBitQ, RaBitQ4, RaBitQfs"
POINTS = 39  # training vectors for each centroid or codeword, the least that faiss advises
SAMPLE = 64  # training vectors for each centroid
SAMPLE_LEAST = 65_536  # what a codebook of 8 bits is trained on at most
HEADER = struct.Struct("<4siqqq?i")  # type, width, vectors, two unused, trained, metric
DEVICE = re.compile(r"cpu|cuda(:(\d{1,2}))?")
CHANGING = frozenset(  # numbers of an index that training, adding and searching change
    {"is_trained", "nprobe", "ntotal", "ntotal2", "this", "thisown", "verbose"}
)
_READING = Lock()
DEVICE_MOST = 2048  # tokens that faiss finds on a GPU

_orphaned = False  # in a forked child: the threads that faiss believes to have are its parent's


def _forked() -> None:
    global _orphaned
    _orphaned = _orphaned or "faiss" in sys.modules


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def library() -> Any:  # noqa: ANN401
    """The module ``faiss``. Raises MissingExtraError where it is not installed.

    Its threads are those of OpenMP, which waits for ever in a forked child for those of the
    parent: there, it works in the calling thread alone.
    """
    try:
        with warnings.catch_warnings():  # of its bindings, in newer Pythons
            warnings.simplefilter("ignore", DeprecationWarning)
            import faiss
    except ImportError as error:
        raise MissingExtraError("The faiss backend", "faiss") from error
    if _orphaned:
        faiss.omp_set_num_threads(1)
    return faiss


def gpus() -> int | None:
    """GPUs that faiss sees; None where it is built for CPUs alone."""
    faiss = library()
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else None


def described() -> str:
    """What the installed faiss is: version, instruction set, GPUs."""
    faiss, there = library(), gpus()
    config = getattr(faiss, "SIMDConfig", None)
    simd = config.get_level_name() if config is not None else faiss.get_compile_options().strip()
    seen = "built for CPUs alone" if there is None else f"GPUs that it sees: {there}"
    return f"{faiss.__version__}, instruction set {simd}, {seen}"


@contextmanager
def at_most(threads: int | None) -> Iterator[None]:
    """Let faiss use this many threads for what is called here; None leaves its own number.

    The number belongs to the calling thread, so that others are not disturbed.
    """
    faiss = library()
    if threads is None or _orphaned:
        yield
        return
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def empty(factory: str, width: int) -> Any:  # noqa: ANN401
    """An untrained index. Raises UsageError where faiss makes none of vectors this wide."""
    faiss = library()
    try:
        return faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise UsageError(
            f"faiss makes no {factory!r} of vectors of width {width}: {_said(error)}"
        ) from error


def least(index: Any) -> int:  # noqa: ANN401
    """Vectors that its training needs."""
    faiss, base = library(), _base(index)
    codewords = [base.nlist] if hasattr(base, "nlist") else []
    if hasattr(base, "pq"):
        codewords.append(base.pq.ksub)
    learns = [t for t in _transforms(index) if not isinstance(t, faiss.RandomRotationMatrix)]
    codewords += [256 for t in learns if isinstance(t, faiss.OPQMatrix)]
    return int(max([1, *(POINTS * n for n in codewords), *(t.d_in for t in learns)]))


def sample_size(index: Any) -> int:  # noqa: ANN401
    """Vectors that its training takes, where there are so many."""
    return max(SAMPLE_LEAST, SAMPLE * int(getattr(_base(index), "nlist", 0)))


def train(index: Any, sample: Floats, seed: int) -> None:  # noqa: ANN401
    """Train on vectors [n, H]: the same index for the same vectors and seed."""
    base = _base(index)
    for trained in [base, *([base.pq] if hasattr(base, "pq") else [])]:
        if hasattr(trained, "cp"):
            trained.cp.seed = seed
            trained.cp.min_points_per_centroid = 1  # there are enough; faiss would print else
    if hasattr(base, "do_polysemous_training"):
        base.do_polysemous_training = False
    with _one_result(index), _refusals("train"):
        index.train(sample)


def add(index: Any, vectors: Floats) -> None:  # noqa: ANN401
    """Append vectors [n, H]; they are numbered on."""
    with _one_result(index), _refusals("take"):
        index.add(vectors)


def cut(index: Any, count: int) -> int:  # noqa: ANN401
    """Forget all vectors but the first ``count``; returns how many are left, perhaps none."""
    faiss, base = library(), _base(index)
    if count == 0 or isinstance(base, faiss.IndexIVFFastScan):
        # Its lists, packed in blocks, mix what was removed into what is added (faiss 1.15.1).
        index.reset()
    elif count < index.ntotal:
        index.remove_ids(faiss.IDSelectorRange(count, index.ntotal))
    return int(index.ntotal)


def to_bytes(index: Any) -> Array:  # noqa: ANN401
    """The index as faiss writes it, uint8 [n]."""
    data: Array = library().serialize_index(index)
    return data


def from_bytes(data: Array, factory: str, width: int, count: int, where: object) -> Any:  # noqa: ANN401
    """Read an index back, its digests checked before: faiss trusts what it reads.

    Its type, width, number of vectors and metric are compared with what they must be before
    faiss sees a byte, and its parts afterwards. Raises IndexCorruptError.
    """
    faiss = library()
    untrained = to_bytes(empty(factory, width))
    kind, d, _, one, two, _, metric = HEADER.unpack_from(untrained.tobytes())
    header = HEADER.pack(kind, d, count, one, two, True, metric)
    if data[: HEADER.size].tobytes() != header:
        raise IndexCorruptError(
            f"{where}: not the index {factory!r} of {count} vectors of width {width} that faiss "
            f"{faiss.__version__} would write; build the index anew."
        )
    try:
        with _limits(len(data)):
            index = faiss.deserialize_index(data)
    except (RuntimeError, MemoryError) as error:
        raise IndexCorruptError(
            f"{where}: faiss {faiss.__version__} cannot read it: {_said(error)}"
        ) from error
    got, want = _form(index), _form(faiss.deserialize_index(untrained))
    if got != want or _held(index) != count:
        raise IndexCorruptError(f"{where}: not the index that {factory!r} names: {got}.")
    return index


def to_device(index: Any, device: str) -> Any:  # noqa: ANN401
    """Move an index to a GPU; on the CPU it stays as it is.

    Raises ResourceError where there is no such GPU or faiss cannot use one.
    """
    match = DEVICE.fullmatch(device)
    if match is None:
        raise UsageError(f"A device is 'cpu', 'cuda' or 'cuda:1', got {device!r}.")
    if device == "cpu":
        return index
    faiss, number, there = library(), int(match[2] or 0), gpus()
    if there is None or number >= there:
        raise ResourceError(
            f"device={device!r} is not there for faiss {described()}. For a GPU: pip uninstall "
            "faiss-cpu, pip install 'tokret[gpu]', and `tokret doctor` says what faiss then sees; "
            "device='cpu' searches without."
        )
    try:
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), number, index)
    except RuntimeError as error:
        raise ResourceError(f"faiss cannot move this index to {device}: {_said(error)}") from error


def set_probes(index: Any, nprobe: int) -> None:  # noqa: ANN401
    """Say how many lists a search reads; without lists it does nothing."""
    base = _base(index)
    if hasattr(base, "nlist"):
        base.nprobe = min(nprobe, base.nlist)


def chooses(index: Any) -> bool:  # noqa: ANN401
    """Whether a search can be told which vectors count."""
    faiss, base = library(), _base(index)
    without = (faiss.IndexPQ, faiss.IndexFastScan)  # the last two of 1.15 that refuse
    on_device = hasattr(faiss, "GpuIndex") and isinstance(base, faiss.GpuIndex)
    return not on_device and not isinstance(base, without)


def search(index: Any, query: Floats, k: int, bits: Array | None = None) -> tuple[Ints, Floats]:  # noqa: ANN401
    """The ``k`` nearest vectors of each row: query [Q, H] -> numbers and similarities [Q, k].

    Best first; a number is -1 where faiss found no more. ``bits``, a vector's the lowest first,
    say which vectors count, to an index that ``chooses``. Raises ResourceError.
    """
    params = None
    if bits is not None:
        params = _parameters(index, library().IDSelectorBitmap(bits))
    try:
        sims, numbers = index.search(query, k, params=params)
    except RuntimeError as error:  # of a GPU, most of all
        raise ResourceError(f"faiss cannot search this index: {_said(error)}") from error
    return numbers, sims


def _parameters(index: Any, selector: Any) -> Any:  # noqa: ANN401
    faiss, base = library(), _base(index)
    if isinstance(base, faiss.IndexIVFPQ):
        params = faiss.IVFPQSearchParameters(sel=selector, nprobe=base.nprobe)
    elif isinstance(base, faiss.IndexIVFRaBitQ):
        params = faiss.IVFRaBitQSearchParameters(sel=selector, nprobe=base.nprobe)
    elif isinstance(base, faiss.IndexIVF):
        params = faiss.SearchParametersIVF(sel=selector, nprobe=base.nprobe)
    elif isinstance(base, faiss.IndexRaBitQ):
        params = faiss.RaBitQSearchParameters(sel=selector)
    else:
        params = faiss.SearchParameters(sel=selector)
    if index is not base and isinstance(index, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=params)
    return params


def _base(index: Any) -> Any:  # noqa: ANN401
    """The index under its transforms."""
    faiss = library()
    return (
        faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
    )


def _transforms(index: Any) -> list[Any]:  # noqa: ANN401
    faiss = library()
    if not isinstance(index, faiss.IndexPreTransform):
        return []
    return [faiss.downcast_VectorTransform(index.chain.at(i)) for i in range(index.chain.size())]


def _form(index: Any) -> tuple[object, ...]:  # noqa: ANN401
    """What must be the same in an index that was read as in one newly made.

    Every whole number and switch of its parts, but those of what was trained and added:
    faiss believes those that say how long its arrays are.
    """
    faiss, base = library(), _base(index)
    parts = [*_transforms(index), index, base]
    parts += [getattr(base, name) for name in ("pq", "sq", "rabitq") if hasattr(base, name)]
    if isinstance(base, faiss.IndexIVF):
        parts.append(faiss.downcast_InvertedLists(base.invlists))
        parts.append(faiss.downcast_index(base.quantizer))
    form: list[object] = [(type(part).__name__, _numbers(part)) for part in parts]
    if hasattr(base, "pq"):
        form.append(base.pq.centroids.size())
    return tuple(form)


def _numbers(part: Any) -> dict[str, int]:  # noqa: ANN401
    found = {}
    for name in dir(part):
        if not name.startswith("_") and name not in CHANGING:
            value = getattr(part, name)
            if isinstance(value, int):
                found[name] = int(value)
    return found


def _held(index: Any) -> int:  # noqa: ANN401
    """How many vectors its parts really hold; -1 where they do not agree."""
    faiss, base = library(), _base(index)
    counts = {int(index.ntotal), int(base.ntotal)}
    if not _arrays_fit(index):
        return -1
    if isinstance(base, faiss.IndexIVF):
        quantizer = faiss.downcast_index(base.quantizer)
        if quantizer.ntotal != base.nlist or quantizer.codes.size() != 4 * base.d * base.nlist:
            return -1
        counts.add(sum(base.invlists.list_size(i) for i in range(base.nlist)))
    elif isinstance(base, faiss.IndexFastScan):
        if base.ntotal2 != -(-base.ntotal // base.bbs) * base.bbs:
            return -1
        if base.codes.size() < base.ntotal2 * max(base.code_size, base.M2 // 2):
            return -1
    elif isinstance(base, faiss.IndexFlatCodes):
        counts.add(base.codes.size() // base.code_size)
    return counts.pop() if len(counts) == 1 else -1


def _arrays_fit(index: Any) -> bool:  # noqa: ANN401
    """Whether what was learnt has as many numbers as its use reads."""
    faiss, base = library(), _base(index)
    for transform in _transforms(index):
        if isinstance(transform, faiss.LinearTransform) and (
            transform.A.size() != transform.d_in * transform.d_out
            or transform.b.size() != transform.d_out * transform.have_bias
        ):
            return False
    if hasattr(base, "sq"):
        ranged = base.sq.qtype in (
            faiss.ScalarQuantizer.QT_8bit,
            faiss.ScalarQuantizer.QT_6bit,
            faiss.ScalarQuantizer.QT_4bit,
        )
        if base.sq.trained.size() != 2 * base.d * ranged:
            return False
    return not hasattr(base, "center") or bool(base.center.size() == base.d)


@contextmanager
def _limits(size: int) -> Iterator[None]:
    """Let faiss read no array and no list that ``size`` bytes cannot hold.

    The limits are those of the whole process, so one blob is read at a time.
    """
    faiss = library()
    limits = {
        "loop_limit": max(size, 1),
        "vector_byte_limit": 4 * size + 4096,  # faiss divides by 4
        "lattice_r2_limit": 1,
    }
    with _READING:
        before = {name: getattr(faiss, f"get_deserialization_{name}")() for name in limits}
        try:
            for name, value in limits.items():
                getattr(faiss, f"set_deserialization_{name}")(value)
            yield
        finally:
            for name, value in before.items():
                getattr(faiss, f"set_deserialization_{name}")(value)


@contextmanager
def _one_result(index: Any) -> Iterator[None]:  # noqa: ANN401
    with at_most(1 if _transforms(index) else None):
        yield


@contextmanager
def _refusals(verb: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise UsageError(f"faiss cannot {verb} these vectors: {_said(error)}") from error


def _said(error: Exception) -> str:
    """What faiss says, without where in its sources."""
    return str(error).rpartition("failed: ")[2].strip() or str(error).strip()
