"""Models of sentence-transformers in each layout on disk, made in conftest."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers", minversion="6.0")

from safetensors.torch import load_file, save_file  # noqa: E402
from sentence_transformers import MultiVectorEncoder  # noqa: E402
from sentence_transformers.multi_vector_encoder.modules import (  # noqa: E402
    HierarchicalTokenPooling,
)
from transformers import PreTrainedTokenizerFast, T5EncoderModel  # noqa: E402

from tokret.encoders import model_files, multivector  # noqa: E402
from tokret.encoders.base import encoders  # noqa: E402
from tokret.encoders.multivector import MultiVector  # noqa: E402
from tokret.errors import InputError, ModelError, ResourceError, UsageError  # noqa: E402

pytestmark = pytest.mark.st

TEXTS = [
    "The quick brown fox, jumps over the lazy dog.",
    "Paris is the capital of France",
    "",
    "Late interaction keeps one vector a token! " * 5,
    "İstanbul 漢字 😀 e\u0301tude",
]
HIDDEN, WIDTH = 16, 8
LAYOUTS = ["native", "expanding", "pylate", "stanford", "xtr"]


def write(path, value):
    path.write_text(json.dumps(value), "utf-8")


def make(folder):
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module", params=LAYOUTS)
def model(request, saved):
    return MultiVector(str(saved / request.param))


def rows(encoded):
    """Per text: vectors, the words they stand for, token ids."""
    offsets = encoded.tokens.offsets
    for i, vectors in enumerate(encoded.tokens):
        part = slice(offsets[i], offsets[i + 1])
        yield vectors, encoded.spans[part], encoded.token_ids[part]


def theirs(folder, task):
    """What sentence-transformers itself answers, all texts in one batch."""
    own = MultiVectorEncoder(str(folder), device="cpu", local_files_only=True)
    encode = own.encode_query if task == "query" else own.encode_document
    return encode(TEXTS, batch_size=len(TEXTS), convert_to_numpy=True)


@pytest.mark.parametrize("name", LAYOUTS[:-1])
@pytest.mark.parametrize("task", ["query", "document"])
def test_vectors_are_those_of_sentence_transformers(saved, name, task):
    model = MultiVector(str(saved / name))
    encode = model.encode_queries if task == "query" else model.encode_documents
    wanted = theirs(saved / name, task)
    for (vectors, _, _), other in zip(rows(encode(TEXTS)), wanted, strict=True):
        assert np.array_equal(vectors, other)  # the same calls on the same batch: the same bits


def test_an_xtr_folder_is_a_t5_encoder_with_a_projection_on_lower_cased_text(saved):
    folder = saved / "xtr"
    fast = PreTrainedTokenizerFast.from_pretrained(folder)
    t5 = T5EncoderModel.from_pretrained(folder).eval()
    head = load_file(folder / "2_Dense/model.safetensors")["linear.weight"]
    model = MultiVector(str(folder))
    for encode in (model.encode_queries, model.encode_documents):
        for text, (vectors, _, ids) in zip(TEXTS, rows(encode(TEXTS)), strict=True):
            wanted_ids = fast(text.lower())["input_ids"]
            assert ids.tolist() == wanted_ids and wanted_ids[-1] == fast.eos_token_id
            with torch.inference_mode():
                hidden = t5(torch.tensor([wanted_ids])).last_hidden_state[0] @ head.T
            unit = torch.nn.functional.normalize(hidden, dim=-1).numpy()
            np.testing.assert_allclose(vectors, unit, atol=1e-6)


def test_spans_point_at_the_words(model):
    text = "  Paris is, the capital of France"
    fast = model._tokenizer
    for encode in (model.encode_queries, model.encode_documents):
        (_, spans, ids), *_ = rows(encode([text]))
        shown = [text[a:b] for a, b in spans]
        pieces = fast.convert_ids_to_tokens(ids.tolist())
        for piece, word in zip(pieces, shown, strict=True):
            if word:
                assert piece.replace("##", "").replace("▁", "") in (word.lower(), "[UNK]", "<unk>")
        letters = "".join(shown)
        whole = text.replace(" ", "")
        assert len(letters) >= 7  # what is cut off has no range
        assert whole.startswith(letters) or whole.replace(",", "").startswith(letters)


def test_what_stands_for_no_text_has_an_empty_range(saved):
    query = "fox"
    (_, spans, ids), *_ = rows(MultiVector(str(saved / "pylate")).encode_queries([query]))
    fast = MultiVector(str(saved / "pylate"))._tokenizer
    pieces = fast.convert_ids_to_tokens(ids.tolist())
    assert [p.lower() for p in pieces[:2]] == ["[cls]", "[q] "] and pieces.count("[MASK]") == 16 - 4
    held = [p for p, (a, b) in zip(pieces, spans, strict=True) if b > a]
    assert held == ["fox"] and len(spans) == 16
    (_, spans, _), *_ = rows(MultiVector(str(saved / "native")).encode_documents(["fox"]))
    assert [b - a for a, b in spans if b > a] == [3]  # the prompt, "passage: ", stands apart


def test_the_skiplist_drops_documents_punctuation_with_its_ranges(saved):
    model = MultiVector(str(saved / "stanford"))
    text = "fox, dog."
    for encode, kept in (
        (model.encode_documents, ["fox", "dog"]),
        (model.encode_queries, ["fox", ",", "dog", "."]),
    ):
        (_, spans, _), *_ = rows(encode([text]))
        assert [text[a:b] for a, b in spans if b > a] == kept


def test_cut_texts_are_marked_and_keep_their_ranges(model):
    encoded = model.encode_documents([*TEXTS, "fox " * 600])
    assert encoded.truncated[-1] and not encoded.truncated[2]
    (*_, (vectors, spans, _)) = rows(encoded)
    assert len(vectors) <= model.max_tokens
    shown = spans[spans[:, 1] > spans[:, 0]]
    assert set(map(tuple, (shown - shown[:, :1]).tolist())) <= {(0, 1), (0, 2), (0, 3)}
    assert (np.diff(shown[:, 0]) >= 0).all() and shown[0, 0] == 0
    assert model.encode_documents(["fox"]).truncated.tolist() == [False]


def test_lengths_can_be_set(saved):
    model = MultiVector(str(saved / "pylate"), document_length=9, query_length=20)
    assert model.max_tokens == 9
    assert len(model.encode_documents(["fox dog " * 9]).tokens[0]) == 9
    assert len(model.encode_queries(["fox"]).tokens[0]) == 20
    for wrong in ({"document_length": 2}, {"query_length": 5000}):
        with pytest.raises(UsageError, match="must be"):
            MultiVector(str(saved / "pylate"), **wrong).encode_queries(["fox"])


def test_token_spans_are_those_of_the_uncut_text(model):
    text = "the quick fox " * 50
    spans = model.token_spans(text)
    assert "".join(text[a:b] for a, b in spans) == text.replace(" ", "")
    assert model.token_spans("").shape == (0, 2)


def test_batches_do_not_change_the_vectors(saved, model):
    one = MultiVector(model.model, batch_size=1).encode_documents(TEXTS)
    many = model.encode_documents(TEXTS)
    assert one.tokens.offsets.tolist() == many.tokens.offsets.tolist()
    assert one.spans.tolist() == many.spans.tolist()
    np.testing.assert_allclose(one.tokens.vectors, many.tokens.vectors, atol=1e-6)


def test_a_batch_is_halved_until_it_fits_and_one_text_that_does_not_is_an_error(saved):
    model = MultiVector(str(saved / "native"))
    whole = model.encode_documents(TEXTS)
    real, sizes = model._model.encode_document, []

    def scarce(texts, **kwargs):
        sizes.append(len(texts))
        if len(texts) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(texts, **kwargs)

    model._model.encode_document = scarce
    limit = 2
    got = model.encode_documents(TEXTS)
    np.testing.assert_allclose(got.tokens.vectors, whole.tokens.vectors, atol=1e-6)
    assert sizes == [5, 2, 3, 1, 2]
    limit = 0
    with pytest.raises(ResourceError, match="one text"):
        model.encode_documents(TEXTS)


def test_another_fault_of_the_model_is_not_taken_for_want_of_memory(saved):
    model = MultiVector(str(saved / "native"))

    def broken(texts, **kwargs):
        raise RuntimeError("shapes differ")

    model._model.encode_document = broken
    with pytest.raises(RuntimeError, match="shapes differ"):
        model.encode_documents(TEXTS)


def test_threads_share_one_model_and_get_the_same_vectors(saved, monkeypatch):
    loads, load = [], multivector._load
    monkeypatch.setattr(multivector, "_load", lambda *a, **k: loads.append(1) or load(*a, **k))
    model = MultiVector(str(saved / "expanding"))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(model.encode_queries, [TEXTS] * 8))
        assert list(pool.map(len, pool.map(model.token_spans, [TEXTS[3]] * 8))) == (
            [len(model.token_spans(TEXTS[3]))] * 8
        )
    assert len(loads) == 1
    assert all(np.array_equal(f.tokens.vectors, found[0].tokens.vectors) for f in found)


def test_pooled_vectors_stand_for_no_single_token(saved, tmp_path):
    own = MultiVectorEncoder(str(saved / "native"), device="cpu", local_files_only=True)
    own.append(HierarchicalTokenPooling(pool_factor=2))
    own.save_pretrained(str(tmp_path))
    model = MultiVector(str(tmp_path))
    wanted = own.encode_document(TEXTS, convert_to_numpy=True)
    for (vectors, spans, ids), other in zip(
        rows(model.encode_documents(TEXTS)), wanted, strict=True
    ):
        np.testing.assert_allclose(vectors, other, atol=1e-6)
        assert not spans.any() and (ids == -1).all()


def test_a_model_that_does_not_normalise_is_normalised(saved, tmp_path):
    shutil.copytree(saved / "native", tmp_path / "m")
    listed = json.loads((tmp_path / "m/modules.json").read_text())
    write(tmp_path / "m/modules.json", listed[:-1])
    plain = MultiVector(str(tmp_path / "m")).encode_documents(TEXTS)
    unit = MultiVector(str(saved / "native")).encode_documents(TEXTS)
    np.testing.assert_allclose(plain.tokens.vectors, unit.tokens.vectors, atol=1e-6)


def test_the_spec_builds_the_model_and_prints_without_runtime_settings(saved):
    path = str(saved / "native")
    model = encoders.build(f'st(model="{path}", document_length=10, device="cpu", batch_size=4)')
    assert model.max_tokens == 10
    assert str(model) == model.identity.spec == f'st(model="{path}", document_length=10)'
    assert model.identity.dim == WIDTH


def test_identity_follows_the_files_and_the_lengths_alone(saved, tmp_path):
    shutil.copytree(saved / "native", tmp_path / "copy")
    here, there = str(saved / "native"), tmp_path / "copy"
    sha = MultiVector(here).identity.sha256
    assert MultiVector(str(there), device="cpu", batch_size=1).identity.sha256 == sha
    assert MultiVector(here, document_length=11).identity.sha256 != sha
    (there / "README.md").write_text("another")
    assert MultiVector(str(there)).identity.sha256 == sha
    weights = load_file(there / "1_Dense/model.safetensors")
    save_file({k: v + 1 for k, v in weights.items()}, there / "1_Dense/model.safetensors")
    assert MultiVector(str(there)).identity.sha256 != sha


def test_a_file_is_hashed_again_only_when_it_changed(saved, monkeypatch):
    model_files.digest(saved / "native")
    monkeypatch.setattr(model_files.hashlib, "file_digest", None)
    assert len(model_files.digest(saved / "native")) == 64


def test_pickled_weights_are_refused_with_the_way_out(saved, tmp_path):
    shutil.copytree(saved / "stanford", tmp_path / "m")
    (tmp_path / "m/model.safetensors").rename(tmp_path / "m/pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is pickled.*save_file"):
        MultiVector(str(tmp_path / "m")).encode_queries(["fox"])


@pytest.fixture
def xtr_as_on_the_hub(saved, tmp_path):
    """An XTR folder whose projection is a file of torch.save."""
    folder = shutil.copytree(saved / "xtr", tmp_path / "m")
    weights = load_file(folder / "2_Dense/model.safetensors")
    (folder / "2_Dense/model.safetensors").unlink()
    torch.save(weights, folder / "2_Dense/pytorch_model.bin")
    return folder


def test_the_projection_of_an_xtr_folder_is_read_from_torchs_file_without_unpickling(
    saved, xtr_as_on_the_hub, monkeypatch
):
    monkeypatch.setattr(torch, "load", None)
    wanted = MultiVector(str(saved / "xtr")).encode_queries(TEXTS).tokens
    ours = MultiVector(str(xtr_as_on_the_hub))
    assert np.array_equal(ours.encode_queries(TEXTS).tokens.vectors, wanted.vectors)
    before = ours.identity.sha256
    file = xtr_as_on_the_hub / "2_Dense/pytorch_model.bin"
    torch.save({"linear.weight": torch.ones(WIDTH, HIDDEN)}, file)
    assert MultiVector(str(xtr_as_on_the_hub)).identity.sha256 != before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: {"w": torch.ones(3, 2)}, "expected one float32 tensor"),
        (lambda: {"w": torch.ones(WIDTH, HIDDEN), "b": torch.ones(1)}, "got tensors of"),
        (lambda: {"w": torch.full((WIDTH, HIDDEN), float("nan"))}, "NaN or infinity"),
        (None, "not in torch's zip form"),
    ],
)
def test_a_projection_that_is_not_one_matrix_is_refused(xtr_as_on_the_hub, content, says):
    file = xtr_as_on_the_hub / "2_Dense/pytorch_model.bin"
    file.write_bytes(b"junk") if content is None else torch.save(content(), file)
    with pytest.raises(ModelError, match=says):
        MultiVector(str(xtr_as_on_the_hub)).encode_queries(["fox"])


def test_an_xtr_folder_without_a_projection_is_incomplete(xtr_as_on_the_hub):
    (xtr_as_on_the_hub / "2_Dense/pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        MultiVector(str(xtr_as_on_the_hub)).encode_queries(["fox"])


def test_a_model_that_is_not_multi_vector_is_refused(saved):
    with pytest.raises(ModelError, match="not a multi-vector model"):
        MultiVector(str(saved / "plain")).encode_queries(["fox"])


def test_code_of_a_model_is_not_run(saved, tmp_path):
    shutil.copytree(saved / "native", tmp_path / "m")
    listed = json.loads((tmp_path / "m/modules.json").read_text())
    listed[2]["type"] = "hostile.Mask"
    write(tmp_path / "m/modules.json", listed)
    (tmp_path / "m/hostile.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ModelError, match="trust_remote_code"):
        MultiVector(str(tmp_path / "m")).encode_queries(["fox"])


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "tokenizer.json"])
def test_an_incomplete_folder_is_a_model_error(saved, tmp_path, missing):
    shutil.copytree(saved / "stanford", tmp_path / "m")
    (tmp_path / "m" / missing).unlink()
    with pytest.raises(ModelError):
        MultiVector(str(tmp_path / "m")).encode_queries(["fox"])


def test_a_damaged_config_is_a_model_error(saved, tmp_path):
    for damage in ("{", "[" * 100_000, "[]", "{}"):
        shutil.rmtree(tmp_path / "m", ignore_errors=True)
        shutil.copytree(saved / "stanford", tmp_path / "m")
        (tmp_path / "m/config.json").write_text(damage)
        with pytest.raises(ModelError):
            MultiVector(str(tmp_path / "m")).encode_queries(["fox"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./no/such/folder", "No model folder"),
        ("owner/a/b", "No model folder"),
        (__file__, "is a file"),
    ],
)
def test_a_path_that_is_not_there_is_a_model_error(name, said):
    with pytest.raises(ModelError, match=said):
        MultiVector(name).encode_queries(["fox"])


def test_a_local_folder_has_no_revision(saved):
    with pytest.raises(ModelError, match="no revision"):
        MultiVector(str(saved / "native"), revision="main").encode_queries(["fox"])


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch):
    import huggingface_hub

    asked = []

    def down(name, **kwargs):
        asked.append((name, kwargs["revision"]))
        raise OSError("offline\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", down)
    with pytest.raises(ModelError, match=r"o/m at revision v9 .*\(offline\)"):
        MultiVector("o/m", revision="v9").encode_queries(["fox"])
    assert asked == [("o/m", "v9")]


def test_offline_only_the_cache_is_read(saved, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="o/m"):
        MultiVector("o/m").encode_queries(["fox"])
    cache = make(tmp_path / "models--o--m")
    make(cache / "refs")
    (cache / "refs/main").write_text("a" * 40)
    shutil.copytree(saved / "stanford", cache / "snapshots" / ("a" * 40))
    if not model_files.locate("o/m").is_relative_to(tmp_path):
        pytest.skip("the Hub's client keeps its cache elsewhere")
    assert MultiVector("o/m").encode_queries(["fox"]).tokens.width == WIDTH
    with pytest.raises(ModelError, match="revision other"):
        MultiVector("o/m", revision="other").encode_queries(["fox"])
    (cache / "snapshots" / ("a" * 40) / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="incomplete"):
        MultiVector("o/m").encode_queries(["fox"])


def test_what_is_not_text_is_refused_and_a_lone_surrogate_is_read(model):
    with pytest.raises(InputError, match="Text 1 is int"):
        model.encode_queries(["fox", 7])
    text = "fox \ud83d dog"
    (_, spans, _), *_ = rows(model.encode_documents([text]))
    letters = "".join(text[a:b] for a, b in spans)
    assert letters.startswith("fox") and letters.endswith("dog")


def test_a_row_that_is_not_made_of_the_texts_tokens_has_empty_ranges(saved):
    model = MultiVector(str(saved / "native"))
    real = model._model.encode_document

    def templated(texts, **kwargs):
        items = real(texts, **kwargs)
        for item in items:
            item["input_ids"] = item["input_ids"].flip(0)
        return items

    model._model.encode_document = templated
    assert not model.encode_documents(["the fox and the dog"]).spans.any()


def test_left_padding_is_laid_beside_too(saved):
    model = MultiVector(str(saved / "native"))
    model._tokenizer.padding_side = "left"
    text = "fox"
    encoded = model.encode_documents([text, "the quick brown dog"])
    (_, spans, _), *_ = rows(encoded)
    assert [text[a:b] for a, b in spans if b > a] == ["fox"]


def test_no_texts_make_an_empty_set(model):
    encoded = model.encode_documents([])
    assert len(encoded.tokens) == 0 and encoded.tokens.width == WIDTH
    assert encoded.spans.shape == (0, 2) and encoded.truncated.shape == (0,)


def test_the_missing_extra_is_named(saved, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"tokret\[st\]"):
        MultiVector(str(saved / "native")).encode_queries(["fox"])
