"""Token retrieval analysis and operation counts, by hand."""

import numpy as np
import pytest

from tokret.errors import InputError
from tokret.scoring.xtr_analysis import (
    gold_hits,
    lexical_hits,
    maxsim_operations,
    share_by_rank,
    xtr_operations,
)


def test_operation_counts_are_the_papers():
    assert maxsim_operations(16, 100, 55, 128) == 361_881_600
    assert xtr_operations(16, 100, 2.5) == 89_600


def test_shares_by_rank_are_taken_over_query_tokens():
    offsets = np.array([0, 2, 2, 5])  # passage 1 is empty
    tokens = np.array([[0, 4], [2, 1]])
    gold = gold_hits(tokens, offsets, {2})
    assert gold.tolist() == [[False, True], [True, False]]
    token_ids = np.array([7, 8, 9, 7, 8], np.int32)
    lexical = lexical_hits(tokens, token_ids, np.array([7, 8]))
    assert lexical.tolist() == [[True, False], [False, True]]
    third = np.array([[True, True]])
    np.testing.assert_allclose(share_by_rank([gold, third]), [2 / 3, 2 / 3])


def test_queries_with_different_numbers_of_ranks_are_refused():
    with pytest.raises(InputError, match="ranks"):
        share_by_rank([np.ones((1, 2), bool), np.ones((1, 3), bool)])
    with pytest.raises(InputError, match="query tokens"):
        share_by_rank([])
