"""Model folders: find one, say which layout it has, and hash its files.

Nothing here imports torch, and nothing unpickles: weights are safetensors or refused.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from tokret.errors import MissingExtraError, ModelError

Layout = Literal["sentence-transformers", "stanford", "xtr"]

WEIGHTS = "*.safetensors"
TEXTS = ("*.json", "*.txt", "*.model", "*.metadata")  # configs, tokenizers, vocabularies
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
XTR_DENSE = "2_Dense"
XTR_PICKLED = f"{XTR_DENSE}/pytorch_model.bin"  # as on the Hub
CONVERT = (
    "safetensors.torch.save_file(torch.load('pytorch_model.bin', weights_only=True), "
    "'model.safetensors')."
)
PYLATE_KEYS = {"query_prefix", "document_prefix", "query_length", "document_length"}

_digests: dict[tuple[str, int, int], str] = {}  # by path, size and time of last change


def locate(model: str, revision: str | None = None) -> Path:
    """Give the local folder of ``model``: a path, or a name on the Hugging Face Hub.

    Asks the Hub once, and falls back to its cache; with ``HF_HUB_OFFLINE=1`` only the cache
    is read. Raises ModelError where there is no such folder, name or revision, and
    MissingExtraError without the Hub's client.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ModelError(f"{model} is a local folder and has no revision {revision!r}.")
        return folder
    if folder.exists():
        raise ModelError(f"{model} is a file; give the folder of the model.")
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise ModelError(f"No model folder at {model}; give a folder, or a name as owner/model.")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("A model from the Hugging Face Hub", "st") from error
    at = f"{model} at revision {revision}" if revision else model
    try:
        return Path(
            snapshot_download(
                model, revision=revision, allow_patterns=[WEIGHTS, XTR_PICKLED, *TEXTS]
            )
        )
    except Exception as error:  # its errors share no root, and each means: not here
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"Cannot get model {at} from the Hugging Face Hub or its cache ({reason}). "
            "Check the name, the revision and the network, or give a local folder."
        ) from error


def layout(folder: Path) -> Layout:
    """Say how a multi-vector model is laid out on disk.

    Raises ModelError for weights that are absent or pickled, and for a model that is not
    multi-vector: its missing projection would be made up at random.
    """
    config = _json(folder / "config.json")
    st_config = _json(folder / "config_sentence_transformers.json")
    modules = _json(folder / "modules.json", default=[])
    if not any((config, st_config, modules)):
        raise ModelError(f"{folder} holds no model: config.json and modules.json are absent.")
    dense = _json(folder / XTR_DENSE / "config.json")
    rows, columns = _shape(dense)
    narrows = 0 < rows < columns
    t5 = config.get("model_type") in ("t5", "mt5", "umt5")
    native = st_config.get("model_type") in ("MultiVectorEncoder", "ColBERT")
    types = [str(module.get("type", "")) for module in modules if isinstance(module, dict)]
    pylate = any(kind.startswith("pylate.") for kind in types)
    native = native or pylate or bool(PYLATE_KEYS & st_config.keys())
    xtr = t5 and narrows and not dense.get("bias") and not native
    # The one pickle that may stay: its single matrix is read without unpickling.
    _refuse_pickles(folder, spare={Path(XTR_PICKLED)} if xtr else set())
    architectures = config.get("architectures")
    if isinstance(architectures, list) and "HF_ColBERT" in architectures:
        return "stanford"
    if native:
        return "sentence-transformers"
    if xtr:
        if not any((folder / XTR_DENSE).glob(WEIGHTS)) and not (folder / XTR_PICKLED).is_file():
            raise ModelError(f"{folder / XTR_DENSE} is incomplete: it holds no weights.")
        return "xtr"
    raise ModelError(
        f"{folder} is not a multi-vector model. Wanted: a MultiVectorEncoder or PyLate save, a "
        "Stanford ColBERT checkpoint (architecture HF_ColBERT), or an XTR folder (T5 and "
        f"{XTR_DENSE}, narrowing and without bias)."
    )


def projection_shape(folder: Path) -> tuple[int, int]:
    """Rows and columns of an XTR folder's projection, by its config."""
    return _shape(_json(folder / XTR_DENSE / "config.json"))


def _shape(dense: dict[str, Any]) -> tuple[int, int]:
    """Rows and columns by the config of a layer; 0 where it has no whole number."""
    sides = dense.get("out_features"), dense.get("in_features")
    rows, columns = (side if type(side) is int else 0 for side in sides)
    return rows, columns


def digest(folder: Path) -> str:
    """Hash weights, tokenizer and configs, names included: sha256 in hex.

    A file is read again only when its size or time of last change differs.
    """
    total = hashlib.sha256()
    for path in sorted(_files(folder, (WEIGHTS, XTR_PICKLED, *TEXTS)), key=lambda p: p.as_posix()):
        total.update(f"{path.as_posix()}\0{_file_digest(folder / path)}\n".encode())
    return total.hexdigest()


def _file_digest(path: Path) -> str:
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if key not in _digests:
        with path.open("rb") as file:
            _digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[key]


def _files(folder: Path, patterns: tuple[str, ...]) -> set[Path]:
    """Files of the model, relative; not the exports to other runtimes nor hidden ones."""
    found = {p.relative_to(folder) for pattern in patterns for p in folder.rglob(pattern)}
    return {p for p in found if not p.parts[0].startswith((".", "onnx", "openvino"))}


def _refuse_pickles(folder: Path, spare: set[Path]) -> None:
    """Require safetensors wherever a folder of the model holds pickled weights."""
    safe = {p.parent for p in _files(folder, (WEIGHTS,))}
    for path in sorted(_files(folder, PICKLES)):
        if path in spare or path.name == "training_args.bin":
            continue
        if path.parent not in safe:
            raise ModelError(
                f"{folder / path} is pickled, which can run code on load; tokret reads safetensors "
                f"alone. Once you trust the file, convert it: {CONVERT}"
            )
    if not safe:
        raise ModelError(f"{folder} is incomplete: it holds no {WEIGHTS} file.")


def _json(path: Path, default: Any = None) -> Any:  # noqa: ANN401
    """Read a JSON file of the model; an absent one is empty."""
    if not path.is_file():
        return {} if default is None else default
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not readable JSON: {error}.") from error
    if type(value) is not type({} if default is None else default):
        raise ModelError(f"{path} holds {type(value).__name__}, not what its name says.")
    return value
