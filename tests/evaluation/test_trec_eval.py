"""Our measures are trec_eval's, to the tenth digit, on a thousand random cases."""

import numpy as np
import pytrec_eval

from tokret.evaluation import evaluate

CASES = 1000
QUERIES = 4
NAMES = {
    "nDCG": "ndcg",
    "nDCG@5": "ndcg_cut_5",
    "nDCG@10": "ndcg_cut_10",
    "AP": "map",
    "AP@10": "map_cut_10",
    "RR": "recip_rank",
    "P@5": "P_5",
    "P@10": "P_10",
    "R@5": "recall_5",
    "R@100": "recall_100",
    "Success@5": "success_5",
    "Success@10": "success_10",
    "Rprec": "Rprec",
    "Bpref": "bpref",
    "NumRet": "num_ret",
    "NumRel": "num_rel",
}


def random_case(rng):
    """Graded judgements and scores without float32 ties; some queries have no results."""
    docs = [f"d{i}" for i in range(rng.integers(2, 60))]
    qrels, run = {}, {}
    for q in range(QUERIES):
        judged = rng.choice(docs, rng.integers(1, len(docs)), replace=False)
        grades = rng.choice([0, 0, 1, 2, 3], len(judged))
        qrels[f"q{q}"] = dict(zip(judged.tolist(), grades.tolist(), strict=True))
        found = rng.choice(docs, rng.integers(0, len(docs) + 1), replace=False)
        scores = (rng.permutation(len(found)) * 0.37 - 3).astype(np.float64)
        run[f"q{q}"] = dict(zip(found.tolist(), scores.tolist(), strict=True))
    qrels["q0"][docs[0]] = 1  # without any relevant document there is nothing to measure
    return run, qrels


def test_a_thousand_random_cases_equal_trec_eval_to_the_tenth_digit():
    rng = np.random.default_rng(20261124)
    worst = 0.0
    for _ in range(CASES):
        run, qrels = random_case(rng)
        ours = evaluate(run, qrels, tuple(NAMES), per_query=True, check_ids=False).per_query
        judge = pytrec_eval.RelevanceEvaluator(qrels, set(NAMES.values()))
        theirs = judge.evaluate({q: docs for q, docs in run.items() if docs})
        for name, trec in NAMES.items():
            for query, value in ours[name].items():
                answered = theirs.get(query)
                wanted = answered[trec] if answered is not None else 0.0
                if answered is None and name == "NumRel":
                    wanted = sum(grade >= 1 for grade in qrels[query].values())
                worst = max(worst, abs(value - wanted))
    assert worst <= 1e-10
