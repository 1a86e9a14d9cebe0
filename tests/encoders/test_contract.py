"""What holds for every encoder that runs here."""

import re
import subprocess
import sys

import numpy as np
import pytest

from tokret.encoders import encoders, split
from tokret.errors import InputError

RUN = ["tokret-mini", pytest.param("st", marks=pytest.mark.st)]
DO_NOT_RUN = {"precomputed", "toy"}  # no model; a prop of other tests

TEXTS = [
    "Aspirin lowers the risk of a heart attack, in some patients.",
    "Why?",
    "Two lines\r\nof text\twith   blanks ",
    "the risk of a heart attack " * 9,
]
HOSTILE = [
    "",
    " \t\n ",
    "...!?",
    "\x00a\x01b\x7f",
    "\ufeffwith a mark of byte order",
    "lone \ud83d surrogate \udc00",
    "عربي \u202eright to left\u202c 漢字",
    "😀👩‍👩‍👧 e\u0301\u0327 ﬁ İ ß",
    "[CLS] [SEP] [MASK] [PAD] </s> <pad> [unused0]",
    "x" * 5000,
    "\u0301" * 300,
]


def test_every_registered_encoder_is_under_contract_or_exempt():
    named = {getattr(param, "values", (param,))[0] for param in RUN}
    assert set(encoders.names()) - DO_NOT_RUN == named


def test_importing_the_encoders_is_light():
    heavy = {"onnxruntime", "torch", "transformers", "sentence_transformers", "huggingface_hub"}
    code = f"import sys, tokret.encoders; print(sorted({heavy!r} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.fixture(scope="module", params=RUN)
def spec(request):
    if request.param != "st":
        return request.param
    return f'st(model="{request.getfixturevalue("saved") / "native"}")'


@pytest.fixture(scope="module")
def encoder(spec):
    return encoders.build(spec)


@pytest.fixture(scope="module", params=["queries", "documents"])
def encode(request, encoder):
    return getattr(encoder, f"encode_{request.param}")


def test_vectors_are_unit_float32_with_a_range_and_an_id_each(encoder, encode):
    got = encode(TEXTS)
    n = len(got.tokens.vectors)
    assert got.tokens.dtype == "fp32" and got.tokens.width == encoder.identity.dim
    assert got.spans.dtype == got.token_ids.dtype == np.int32
    assert got.spans.shape == (n, 2) and got.token_ids.shape == (n,)
    assert len(got.tokens) == len(TEXTS) and got.truncated.shape == (len(TEXTS),)
    assert got.truncated.dtype == np.bool_
    np.testing.assert_allclose(np.linalg.norm(got.tokens.vectors, axis=1), 1, atol=1e-5)


def test_vectors_of_a_text_do_not_depend_on_its_batch(encode):
    together = encode([*TEXTS, *TEXTS[::-1]])
    for i, text in enumerate(TEXTS):
        alone = encode([text])
        for j in (i, 2 * len(TEXTS) - 1 - i):
            a, b = together.tokens.offsets[j : j + 2]
            np.testing.assert_allclose(
                together.tokens[j], alone.tokens[0], atol=1e-5, err_msg=text
            )  # float32 in another order of summation
            assert together.spans[a:b].tolist() == alone.spans.tolist()
            assert together.token_ids[a:b].tolist() == alone.token_ids.tolist()
            assert together.truncated[j] == alone.truncated[0]


def test_ranges_lie_in_the_text_and_stand_for_it(encode):
    got = encode(TEXTS)
    for i, text in enumerate(TEXTS):
        a, b = got.tokens.offsets[i : i + 2]
        spans = got.spans[a:b]
        assert ((spans >= 0) & (spans <= len(text))).all() and (spans[:, 0] <= spans[:, 1]).all()
        shown = spans[spans[:, 1] > spans[:, 0]]
        assert len(shown) and (np.diff(shown[:, 0]) >= 0).all()
        for start, end in shown:
            assert not text[start].isspace() and not text[end - 1].isspace()


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_is_encoded_within_its_bounds(encoder, encode, text):
    got = encode([text])
    assert np.isfinite(got.tokens.vectors).all()
    assert ((got.spans >= 0) & (got.spans <= len(text))).all()
    places = encoder.token_spans(text)
    assert places.dtype == np.int64 and places.shape[1:] == (2,)
    assert ((places >= 0) & (places <= len(text))).all()


def test_a_long_text_is_cut_and_marked(encoder):
    got = encoder.encode_documents(["heart " * (encoder.max_tokens + 9), "heart"])
    assert got.truncated.tolist() == [True, False]
    assert len(got.tokens[0]) <= encoder.max_tokens


def test_token_spans_cover_the_letters_of_an_uncut_text(encoder):
    text = "the risk of a heart attack " * 99
    covered = np.zeros(len(text), bool)
    for start, end in encoder.token_spans(text):
        covered[start:end] = True
    assert "".join(c for c, here in zip(text, covered, strict=True) if here) == (
        re.sub(r"\s", "", text)
    )


def test_passages_of_a_long_text_are_read_whole(encoder):
    text = "the risk of a heart attack, in some patients. " * 40
    room = encoder.max_tokens - len(encoder.encode_documents(["heart"]).tokens[0])
    ranges = split(encoder.token_spans(text), text, room, overlap=min(3, room - 1))
    passages = [text[a:b] for a, b in ranges]
    assert len(passages) > 1
    assert not encoder.encode_documents(passages).truncated.any()


def test_no_texts_make_an_empty_answer(encoder, encode):
    got = encode([])
    assert len(got.tokens) == 0 and got.tokens.width == encoder.identity.dim
    assert got.spans.shape == (0, 2) and got.truncated.shape == got.token_ids.shape == (0,)


def test_what_is_not_text_is_refused(encode):
    for wrong in (None, 3, b"bytes"):
        with pytest.raises(InputError, match="str"):
            encode(["fine", wrong])
    with pytest.raises(InputError, match="list"):
        encode("one text")


def test_identity_is_stable_and_its_spec_builds_the_encoder(spec, encoder):
    again = encoders.build(spec)
    assert again.identity == encoder.identity == encoder.identity
    assert re.fullmatch("[0-9a-f]{64}", encoder.identity.sha256)
    assert encoders.build(encoder.identity.spec).identity == encoder.identity
