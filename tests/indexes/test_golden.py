"""Indexes that earlier versions wrote still open, verify and answer."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tokret.indexes import Index, verify

GOLDEN = sorted((Path(__file__).parents[2] / "indexes" / "golden").glob("v*/*"))


def test_there_is_a_golden_index_of_every_backend():
    assert {path.name for path in GOLDEN} >= {
        *("exact-fp32", "exact-fp16", "exact-int8", "bm25", "exact-fields"),
        *("ivf-vectors", "ivf-codes", "ivf-stored"),
    }


@pytest.fixture(params=GOLDEN, ids=lambda path: f"{path.parent.name}-{path.name}")
def golden(request, tmp_path):
    if request.param.name in ("ivf-codes", "ivf-stored"):
        pytest.importorskip("tokret.kernels.native", exc_type=ImportError)
    return Path(shutil.copytree(request.param, tmp_path / "golden"))


def test_is_whole(golden):
    assert verify(golden) == []


def test_holds_the_documents_that_were_put_in(golden):
    with Index.open(golden) as index:
        assert len(index) == 4 and "gone" not in index
        assert index.document("d2").text == "Idioms a red herring, and a whale of a time"
        assert index.document("наука").text == "числа и слова" and index.document("d4").text == ""


def test_answers_as_it_did(golden):
    with Index.open(golden) as index:
        if index.backend.encodes:
            hits = index.search(np.eye(8)[[2, 3]])
            want = {"d2": 2, "d1": 1, "наука": 0}
            off = 0.01 if str(index.backend) == "ivf(bits=4.0)" else 1e-6  # codes alone
            assert {h.doc_id: h.score for h in hits} == pytest.approx(want, abs=off)
        else:
            assert [h.doc_id for h in index.search("red whale")] == ["d2", "d1"]


def test_can_be_written_to(golden):
    with Index.open(golden) as index:
        given = [np.eye(8)[[7]]] if index.backend.encodes else None
        index.add([("new", "zebra")], vectors=given)
        assert index.search("zebra" if given is None else given[0], k=1)[0].doc_id == "new"


def test_keeps_the_fields_it_was_given():
    (path,) = (path for path in GOLDEN if path.name == "exact-fields")
    with Index.open(path) as index:
        assert index.fields() == {
            "lang": {"str": 3},
            "open": {"bool": 1},
            "tags": {"list[str]": 1},
            "year": {"int": 2, "float": 1},
            "год": {"str": 1},
        }
        assert index.ids('tags == "sea" or год >= "д"') == ["d1", "наука"]
        assert index.ids("1850 < year < 2021 and not open == false") == ["d1", "d2"]
        assert index.document("d2").fields == {"year": 2020.5, "lang": "en", "open": True}
