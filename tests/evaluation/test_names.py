import ir_measures
import pytest

from tokret.errors import UsageError
from tokret.evaluation.names import measure_named, measures_named


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("nDCG@10", "nDCG@10"),
        ("AP(rel=2)@100", "AP(rel=2)@100"),
        ("Judged@10", "Judged@10"),
        ("RR", "RR"),
        (" R@100 ", "R@100"),
        ("NDCG@10", "nDCG@10"),
        ("Recall@100", "R@100"),
        ("MAP@100", "AP@100"),
        ("P@5", "P@5"),
        ("MRR@10", "RR@10"),
        ("ndcg_cut.10", "nDCG@10"),
        ("ndcg_cut_10", "nDCG@10"),
        ("recall.100", "R@100"),
        ("map", "AP"),
        ("map_cut.100", "AP@100"),
        ("recip_rank", "RR"),
        ("P.5", "P@5"),
        ("P_5", "P@5"),
        ("IPrec@0.5", "IPrec@0.5"),
        ("nDCG(gains={1: 3})@10", "nDCG(gains={1:3})@10"),
    ],
)
def test_names_of_all_three_traditions_become_one_spelling(written, meant):
    assert str(measure_named(written)) == meant


@pytest.mark.parametrize("spelling", ["nDCG@10", "AP(rel=2)@100", "Success@5", "nDCG"])
def test_a_printed_measure_reads_as_itself(spelling):
    assert str(measure_named(str(measure_named(spelling)))) == spelling


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("mrr@10", "Did you mean 'MRR'"),
        ("nDGC@10", "Did you mean"),
        ("ndcg_cut", "Did you mean 'ndcg_cut.10'"),
        ("Sucess@5", "Did you mean 'Success'"),
        ("bogus@10", "No measure 'bogus@10'"),
        ("nDCG@ten", "after @ comes a number"),
        ("nDCG@", "after @ comes a number"),
        ("", "Cannot read"),
        ("nDCG(10)", "Cannot read"),
        ("nDCG(depth=3)@10", "has no 'depth'"),
        ("R", "needs cutoff: R@10"),
        ("nDCG@10.5", "cannot have cutoff"),
        ("nDCG(gains={1: 2.5})@10", "cannot have gains"),
        ("AP(rel=0)", "cannot have rel"),
        ("IPrec@2", "cannot have recall"),
        ("ERR@10", "Nothing installed computes ERR@10"),
    ],
)
def test_a_name_that_is_no_measure_is_refused_in_words(written, said):
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        measure_named(written)


@pytest.mark.parametrize("cutoff", ["0", "-1", "1000000000000000000000"])
def test_a_cutoff_that_would_end_the_process_inside_trec_eval_is_refused(cutoff):
    with pytest.raises(UsageError, match="cannot have cutoff"):
        measure_named(f"P@{cutoff}")


def test_a_measure_named_twice_is_computed_once_and_the_order_is_kept():
    names = ["R@100", "nDCG@10", "ndcg_cut.10"]
    assert [str(m) for m in measures_named(names)] == ["R@100", "nDCG@10"]


def test_one_name_may_stand_alone_and_none_is_refused():
    assert [str(m) for m in measures_named("nDCG@10")] == ["nDCG@10"]
    with pytest.raises(UsageError, match="at least one measure"):
        measures_named([])


def test_a_measure_of_ir_measures_is_taken_as_it_is():
    assert measures_named(ir_measures.nDCG @ 10) == [measure_named("nDCG@10")]
    assert measures_named([ir_measures.AP(rel=2), "RR"])[0] == ir_measures.AP(rel=2)
