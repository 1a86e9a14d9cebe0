"""What a build is said to cost, against what it costs."""

import numpy as np
import pytest

from tokret.errors import InputError, UsageError
from tokret.indexes import Index, build, estimate

WORDS = np.array([f"word{i}" for i in range(400)])


def corpus(count, longest=30):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, longest, count)
    return [(f"d{i}", " ".join(rng.choice(WORDS, n))) for i, n in enumerate(lengths)]


def truth(path, documents, **options):
    build(path, documents, **options)
    return Index.open(path).info()


@pytest.mark.parametrize("long", ["split", "truncate"])
@pytest.mark.parametrize("backend", ["exact", 'exact(dtype="int8")', "bm25"])
def test_a_build_is_about_as_large_as_estimated(tmp_path, backend, long):
    documents = corpus(2000)
    options = {"encoder": "toy", "backend": backend, "long": long}
    found = estimate.estimate(iter(documents), **options)
    real = truth(tmp_path / "i", documents, **options)
    assert found.whole and found.documents == 2000
    assert found.characters == sum(len(text) for _, text in documents)
    assert found.bytes == pytest.approx(real["bytes"], rel=0.2)
    assert found.tokens == pytest.approx(real["tokens"], rel=0.2)
    assert found.passages == pytest.approx(real["passages"], rel=0.2)
    assert found.seconds > 0 and found.memory > 0


@pytest.mark.parametrize("backend", ["exact", "bm25"])
def test_a_part_of_the_corpus_stands_for_the_whole(tmp_path, monkeypatch, backend):
    monkeypatch.setattr(estimate, "READ_DOCUMENTS", 500)
    documents, passed = corpus(2000), []
    stream = (passed.append(1) or document for document in documents)
    options = {"encoder": "toy", "backend": backend}
    found = estimate.estimate(stream, **options, share=lambda: len(passed) / 2000)
    real = truth(tmp_path / "i", documents, **options)
    assert len(passed) == 500 and not found.whole
    assert found.documents == pytest.approx(2000, rel=0.1)
    assert real["bytes"] / 1.5 < found.bytes < real["bytes"] * 1.5
    least = estimate.estimate(iter(documents), **options, share=lambda: 0.25, at_most=700)
    assert least.documents == 700
    assert estimate.estimate(iter(documents), **options).documents == 2000  # nobody knows the share


def test_given_vectors_are_counted(tmp_path):
    rng = np.random.default_rng(0)
    documents = corpus(600)
    vectors = [rng.standard_normal((n, 8)) for n in rng.integers(1, 20, 600)]
    options = {"encoder": "precomputed(dim=8)"}
    found = estimate.estimate(documents, vectors=iter(vectors), **options)
    real = truth(tmp_path / "i", documents, vectors=vectors, **options)
    assert found.tokens == pytest.approx(real["tokens"], rel=0.01)
    assert found.bytes == pytest.approx(real["bytes"], rel=0.05)
    with pytest.raises(InputError, match=r"fewer vectors \(5\) than documents"):
        estimate.estimate(documents, vectors=vectors[:5], **options)
    with pytest.raises(UsageError, match="encodes no documents"):
        estimate.estimate(documents, **options)


def test_an_empty_corpus_costs_nothing():
    found = estimate.estimate([], encoder="toy")
    assert found.documents == found.tokens == found.bytes == 0 and found.whole


def test_documents_of_nothing_or_very_much_are_estimated_too(tmp_path):
    assert estimate.estimate([("a", ""), ("b", "")], encoder="toy").documents == 2
    book = [("book", " ".join(WORDS[i % 400] for i in range(30_000)))]
    found = estimate.estimate(book, encoder="toy")
    real = truth(tmp_path / "i", book, encoder="toy")
    assert found.tokens == pytest.approx(real["tokens"], rel=0.1)
    assert found.passages == pytest.approx(real["passages"], rel=0.1)
    assert found.bytes == pytest.approx(real["bytes"], rel=0.1)


def test_a_bad_document_is_named_as_a_build_would():
    with pytest.raises(InputError, match="Document 1: text must be a string"):
        estimate.estimate([("a", "b"), ("c", None)], encoder="toy")
