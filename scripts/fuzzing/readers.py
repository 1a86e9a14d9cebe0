"""The readers of files and texts as fuzz targets, each with what must hold of what it read."""

import atexit
import functools
import gzip
import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from fuzzing import Target
from tokret.collections import read_corpus, read_qrels, read_queries, read_run, write_run
from tokret.collections.corpus import OnError
from tokret.collections.metadata import OnMetadata
from tokret.collections.records import Encoding
from tokret.encoders import encoders, open_vectors
from tokret.encoders.model_files import layout
from tokret.encoders.torch_zip import read_matrix
from tokret.evaluation.experiment_file import read_experiment
from tokret.evaluation.fusion import fusers
from tokret.evaluation.names import measure_named
from tokret.evaluation.work_folder import WorkFolder
from tokret.indexes import backends
from tokret.indexes.filter_text import parse as parse_filter
from tokret.indexes.manifest import Manifest, Settings
from tokret.indexes.recipe import read_recipe
from tokret.indexes.segment import DESCRIPTION, read_description
from tokret.registry import parse as parse_spec
from tokret.scoring import scorers

JSON_WORDS = (b'"', b"{", b"}", b"[", b"]", b":", b",", b"null", b"true", b"1e999", b"NaN")
JSON_WORDS += (
    b"-0",
    b'"\\ud800"',
    b"[" * 3000,
    b'{"a":' * 1500,
    b"1" * 4400,
    b"{}",
    b"-1",
    b"1" * 30,
    b"0.5",
    b"\\u0000",
)
NOT_TEXT = (b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc2\x85", b"\xe2\x80\xa8", b"\r\n")
PACKED = (b"\x1f\x8b\x08\0\0\0\0\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"\xff\xfe", b"\x80\x04")


def must(condition: bool, what: str) -> None:
    """Hold what was read to what was promised of it."""
    if not condition:
        raise AssertionError(what)


@functools.cache
def folder() -> Path:
    """A place for one input at a time, in memory where there is such a place."""
    within = "/dev/shm" if Path("/dev/shm").is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="tokret-fuzz-", dir=within))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def written(name: str, data: bytes) -> Path:
    """The input as a file of that name."""
    path = folder() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def text_of(data: bytes) -> str:
    """A text such as a command line may hand over: what is not UTF-8 as lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def a_run(data: bytes) -> None:
    run = read_run(written("a.run", data))
    kept = folder() / "kept.jsonl"
    write_run(run, kept, format="jsonl")
    again = read_run(kept).ranking
    must({q: list(hits) for q, hits in again.items()} == _order(run.ranking), "another order")


def _order(ranking: dict[str, dict[str, float]]) -> dict[str, list[str]]:
    return {query_id: list(hits) for query_id, hits in ranking.items()}


def qrels(data: bytes) -> None:
    for query_id, judged in read_qrels(written("a.qrels", data)).items():
        must(bool(query_id and judged and all(judged)), "an empty id")


SUFFIXES = (".jsonl", ".json", ".tsv", ".txt", ".jsonl.gz", ".tsv.zst")
POLICIES = (get_args(OnError), get_args(Encoding), get_args(OnMetadata))


def corpus(data: bytes) -> None:
    """The first bytes choose the name of the file and the policies."""
    which = np.frombuffer(data[:4].ljust(4, b"\0"), np.uint8)
    on_error, encoding, metadata = (
        known[n % len(known)] for known, n in zip(POLICIES, which[1:].tolist(), strict=True)
    )
    path = written("corpus" + SUFFIXES[which[0] % len(SUFFIXES)], data[4:])
    aside = folder() / "quarantine" if on_error == "quarantine" else None
    for document in read_corpus(
        path, on_error=on_error, quarantine=aside, encoding_errors=encoding, metadata=metadata
    ):
        must(bool(document.doc_id), "an empty id")
        (document.doc_id + document.contents).encode()
        hash(document.fields)
    if aside:
        for line in aside.read_text().splitlines():
            json.loads(line)["raw"].encode("utf-8", "surrogateescape")


def queries(data: bytes) -> None:
    suffix = SUFFIXES[data[0] % 3] if data else ".jsonl"
    for query in read_queries(written("queries" + suffix, data[1:])):
        (query.query_id + query.text).encode()


def experiment(data: bytes) -> None:
    read_experiment(written("experiment.toml", data))


def recipe(data: bytes) -> None:
    read_recipe(written("recipe.toml", data))


def where(data: bytes) -> None:
    tree = parse_filter(text_of(data))
    must(parse_filter(str(tree)) == tree, f"{tree} is read as another filter")


REGISTRIES: tuple[Any, ...] = (backends, scorers, encoders, fusers)


def spec(data: bytes) -> None:
    """The first byte chooses what the rest configures."""
    text, which = text_of(data[1:]), data[0] if data else 0
    parse_spec(text)
    registry = REGISTRIES[which % len(REGISTRIES)]
    component = registry.build(text)
    must(registry.build(str(component)) == component, f"{component} builds another")


def measure(data: bytes) -> None:
    built = measure_named(text_of(data))
    must(measure_named(str(built)) == built, f"{built} names another measure")


def manifest(data: bytes) -> None:
    path = written("manifest-00000001.json", data)
    read = Manifest.read(path, hashlib.sha256(data).hexdigest())
    again = read.to_json()
    path.write_bytes(again)
    must(Manifest.read(path, hashlib.sha256(again).hexdigest()) == read, "written as another")


def description(data: bytes) -> None:
    path = written(f"seg-0/{DESCRIPTION}", data).parent
    entry = {"kind": "exact", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    for column in read_description(path, entry).values():
        must(column.size < 1 << 60, "a size without bounds")


MODEL_FILES = ("config.json", "config_sentence_transformers.json", "modules.json")
MODEL_FILES += ("2_Dense/config.json",)


def model(data: bytes) -> None:
    """The four configs of a model folder, each ended by a NUL, beside some weights."""
    for name in MODEL_FILES:
        piece, _, data = data.partition(b"\0")
        path = written(f"model/{name.replace('/', '-')}", piece)
        (folder() / "model" / name).parent.mkdir(exist_ok=True)
        path.replace(folder() / "model" / name)
    for place in ("", "2_Dense/"):
        (folder() / "model" / f"{place}model.safetensors").touch()
    layout(folder() / "model")


def safetensors(data: bytes) -> None:
    list(open_vectors(written("a.safetensors", data)))


def npy(data: bytes) -> None:
    list(open_vectors(written("a.npy", data), np.array([1, 2])))


def torch_zip(data: bytes) -> None:
    read_matrix(written("pytorch_model.bin", data), 1, 2)


def step_record(data: bytes) -> None:
    """What stands beside a finished step of an experiment."""
    work = WorkFolder(folder())
    slot = work.slot("run", {"k": 1}, ".jsonl")
    slot.path.touch()
    slot.path.with_suffix(".json").write_bytes(data)
    found = work.slot("run", {"k": 1}, ".jsonl").record
    must(found is None or isinstance(found, dict), "a record that is no object")


def _zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("m/data.pkl", b"never read")
        archive.writestr("m/data/0", np.ones(2, "<f4").tobytes())
        archive.writestr("m/byteorder", b"little")
    return out.getvalue()


def _npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.ones((3, 2), np.float32))
    return out.getvalue()


def _safetensors() -> bytes:
    header = json.dumps(
        {
            "vectors": {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24]},
            "lengths": {"dtype": "I64", "shape": [2], "data_offsets": [24, 40]},
        }
    ).encode()
    data = np.ones(6, "<f4").tobytes() + np.array([1, 2], "<i8").tobytes()
    return len(header).to_bytes(8, "little") + header + data


def _manifest() -> bytes:
    empty = Manifest(1, "exact", None, Settings())
    plain = json.loads(empty.to_json())
    column = {"dtype": "<i8", "shape": [0], "blocks": []}
    entry = {"id": "seg-0123456789abcdef", "kind": "exact", "bytes": 3, "sha256": "0" * 64}
    deletes = {"deletes": {"file": "deletes-0123456789abcdef.bin", **column}}
    plain["segments"] = [{**entry, **deletes, "features": ["fields"]}]
    plain |= {"features": ["fields"], "encoder": {"spec": "mini", "sha256": "", "dim": 8}}
    return json.dumps(plain).encode()


def _description() -> bytes:
    columns = {
        "texts": {"dtype": "|u1", "shape": [3], "blocks": ["0" * 16]},
        "token_spans": {"dtype": "<i4", "shape": [0, 2], "blocks": []},
    }
    return json.dumps({"kind": "exact", "columns": columns, "extra": {}}).encode()


EXPERIMENT = b"""collection = "sample"
measures = ["nDCG@10"]
k = 20
limit_queries = 3
remove_self = true
[defaults]
model = "mini"
max_tokens = 12
normalize = true
[[system]]
name = "a"
backend = 'exact(dtype="fp16")'
scorer = "xtr(k_prime=100)"
[[system]]
name = "b"
fuse = ["a", "c"]
method = "rrf(k=60)"
[[system]]
name = "c"
backend = "bm25"
[expected.a."nDCG@10"]
min = 0.5
tolerance = 1e-3
near = "b"
"""
DOCUMENT = (
    b'{"_id": "1", "title": "T", "text": "x y", "metadata": {"year": 2019, "of": ["a", "b"]}}\n'
)
RUN = b"1 Q0 a 1 2.5 t\n1 Q0 b 2 2.5 t\n2 Q0 a 1 -1e-3 t\n"
RUN_JSONL = b'{"query_id": "1", "run": "t", "hits": [{"doc_id": "a", "score": 1.5}]}\n'
RUN_JSONL += b'{"query_id": "2", "hits": []}\n{"query_id": 3, "doc_id": "b", "score": -2}\n'
XTR = b'{"model_type": "t5"}\0{}\0[]\0{"in_features": 4, "out_features": 2, "bias": false}'
FILTERS = (
    b"year >= 2019 and lang in [\"en\", 'de'] and not exists x",
    b'1 <= a < 2.5e3 or (b != true and not (c == "q\\n\'" or d between -1 and 1))',
    b"true or a not in [1, 2,] or 'a' > b",
)
SPECS = (b'\0exact(dtype="fp16")', b"\0ivf(bits=4)", b"\1xtr(k_prime=100)", b"\3rrf(k=60)")
SPECS += (b"\2precomputed(dim=8)", b"\1xtr(k_prime=1)", b"\0bm25(k1=1.2, b=0.75)")

READERS = [
    Target("trec_run", a_run, (RUN, b"1\ta\t1\n1\tb\t2\n", gzip.compress(RUN, mtime=0))),
    Target("jsonl_run", a_run, (RUN_JSONL,), (b'"score"', b'"hits"', b'"doc_id"', *JSON_WORDS)),
    Target(
        "qrels",
        qrels,
        (b"query-id\tcorpus-id\tscore\n1\ta b\t2\n", b"1 0 a 1\n1 0 b -1\n"),
        (b"\t", b" 0 ", b"qid", b"+1", b"1_0", b"\xc2\xa0", b"\xd9\xa3"),
    ),
    Target(
        "corpus",
        corpus,
        (
            b"\0\0\0\0" + DOCUMENT,
            b"\1\1\0\1[" + DOCUMENT + b"]",
            b"\2\2\1\2id\ttext\n1\tx\n",
            b"\3\1\1\0plain",
            b"\4\2\2\0" + gzip.compress(DOCUMENT * 2, mtime=0),
        ),
        (b'"_id"', b'"text"', b'"metadata"', b'"contents"', b'"fields"', b'"title"', *JSON_WORDS),
    ),
    Target(
        "queries",
        queries,
        (
            b'\0{"_id": "1", "text": "x"}\n',
            b"\2" + b"1\tx\n2\ty\n",
            b'\1[{"qid": 1, "query": "x"}]',
        ),
        (b'"_id"', b'"text"', b'"query"', *JSON_WORDS),
    ),
    Target(
        "experiment",
        experiment,
        (EXPERIMENT,),
        (
            b"\nrecipe = ",
            b"1979-05-27",
            b"inf",
            b"9" * 4400,
            b"[" * 3000,
            b"{a=" * 1000,
            b'"\\u0000"',
        ),
    ),
    Target("recipe", recipe, (b'backend = "exact"\nmax_tokens = 8\nnormalize = false\n',)),
    Target("where", where, FILTERS, (b"between", b"==", b"!=", b"\\'", b"9" * 30, b"(" * 70)),
    Target("spec", spec, SPECS, (b"=", b"(", b")", b"None", b"-1", b"1e999", b"9" * 400, b"[[")),
    Target("measure", measure, (b"nDCG@10", b"AP(rel=2)@100", b"ndcg_cut.10", b"Success@5")),
    Target("manifest", manifest, (_manifest(),), JSON_WORDS),
    Target("description", description, (_description(),), JSON_WORDS),
    Target("model", model, (XTR, b'{"architectures": ["HF_ColBERT"]}\0{}\0[]\0{}'), JSON_WORDS),
    Target("safetensors", safetensors, (_safetensors(),), (b"Infinity", b"1e400", *JSON_WORDS)),
    Target("npy", npy, (_npy(),), (b"'descr'", b"'<f4'", b"'|O'", b"True", b"(3, 2)", b"9" * 20)),
    Target("torch_zip", torch_zip, (_zipped(),), (b"PK\x01\x02", b"PK\x05\x06", b"data/")),
    Target("step_record", step_record, (b'{"seconds": 1.5}',), JSON_WORDS),
]
READERS = [replace(reader, words=reader.words + NOT_TEXT + PACKED) for reader in READERS]
