import numpy as np
import pytest

from tokret.errors import UsageError
from tokret.evaluation.leaderboard import Scores, Task, Votes, bootstrap, rules, tiers
from tokret.evaluation.leaderboard.bootstrap import Resampled
from tokret.evaluation.leaderboard.ranks import order_of

BORDA, MEAN = rules.build("borda"), rules.build("mean")


def board(values, sizes, collections=None):
    names = [f"t{t}" for t in range(len(sizes))]
    return Scores(
        tuple(f"s{i}" for i in range(len(values))),
        tuple(map(Task, names, collections or names)),
        np.asarray(values, float),
        np.cumsum([0, *sizes]),
    )


def noisy(seed=0, systems=5, sizes=(40, 60)):
    rng = np.random.default_rng(seed)
    steps = np.arange(systems)[:, None] * 0.3
    return board(rng.normal(size=(systems, sum(sizes))) + steps, sizes)


def test_systems_that_always_differ_keep_their_places():
    scores = board(np.arange(3)[:, None] * np.ones(8), (4, 4))
    found = bootstrap(Votes(scores), BORDA, samples=50)
    assert found.intervals().tolist() == [[3, 3], [2, 2], [1, 1]]
    above = found.above()
    assert above.tolist() == [[0.5, 0, 0], [1, 0.5, 0], [1, 1, 0.5]]
    assert tiers(np.array([2, 1, 0]), above).tolist() == [3, 2, 1]


def test_equal_systems_share_their_place_and_a_tier():
    scores = board(np.ones((3, 6)), (6,))
    found = bootstrap(Votes(scores), BORDA, samples=20)
    assert found.intervals().tolist() == [[2, 2]] * 3
    assert (found.above() == 0.5).all()
    assert tiers(np.array([0, 1, 2]), found.above()).tolist() == [1, 1, 1]


def test_the_same_seed_gives_the_same_samples_and_another_others():
    votes = Votes(noisy())
    one, same, other = (bootstrap(votes, BORDA, samples=300, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.places, same.places)
    assert (one.places != other.places).any()


def test_more_samples_begin_with_the_same():
    votes = Votes(noisy())
    few, many = (bootstrap(votes, MEAN, samples=n) for n in (200, 400))
    np.testing.assert_array_equal(few.places, many.places[:, :200])


@pytest.mark.parametrize("rule", ["borda", "borda(levels=1)", "mean", "zscore", "median", "min"])
def test_a_sample_is_the_leaderboard_of_the_queries_that_were_drawn(rule):
    scores, rng = noisy(), np.random.default_rng(5)
    drawn = [rng.integers(size, size=size) for size in (40, 60)]
    counts = {
        f"t{t}": np.bincount(rows, minlength=size)[:, None].astype(float)
        for t, (rows, size) in enumerate(zip(drawn, (40, 60), strict=True))
    }
    parts = [scores.values[:, scores.columns(t)][:, rows] for t, rows in enumerate(drawn)]
    repeated = board(np.concatenate(parts, axis=1), (40, 60))
    built = rules.build(rule)
    np.testing.assert_allclose(
        built.tally(Votes(scores).sums(counts))[:, 0], built.points(Votes(repeated)), atol=1e-9
    )


@pytest.mark.parametrize("rule", ["borda", "borda(levels=1)", "mean", "zscore", "median", "min"])
def test_a_task_of_weight_two_counts_as_the_task_twice(rule):
    scores = noisy(sizes=(3, 4))
    double = board(np.concatenate([scores.values, scores.values[:, :3]], axis=1), (3, 4, 3))
    built = rules.build(rule)
    weighted = Votes(scores).sums(weights=np.array([[2.0], [1.0]]))
    np.testing.assert_allclose(built.tally(weighted)[:, 0], built.points(Votes(double)))


def test_tasks_of_one_collection_draw_the_same_queries():
    rng = np.random.default_rng(0)
    column = rng.normal(size=(4, 30))
    scores = board(np.concatenate([column, -column], axis=1), (30, 30), ["c", "c"])
    found = bootstrap(Votes(scores), MEAN, samples=100)
    assert (found.places == 2.5).all()  # the two tasks cancel out, whatever was drawn
    apart = board(scores.values, (30, 30))
    assert (bootstrap(Votes(apart), MEAN, samples=100).places != 2.5).any()


def test_an_interval_is_made_of_places_that_were_taken():
    places = np.array([[1.0, 1, 1, 2, 5], [2, 2, 2, 1, 1]])
    found = Resampled(places, "queries", 0)
    assert found.intervals(0.5).tolist() == [[1, 2], [1, 2]]
    assert found.above()[0, 1] == 3 / 5


def test_intervals_hold_the_true_order_about_as_often_as_they_say():
    inside = 0
    for seed in range(40):
        scores = noisy(seed, systems=3, sizes=(60,))
        low, high = bootstrap(Votes(scores), MEAN, samples=200, seed=seed).intervals(0.9).T
        inside += ((low <= [3, 2, 1]) & (high >= [3, 2, 1])).all()
    assert inside >= 34


def test_fewer_queries_make_wider_intervals():
    widths = []
    for queries in (20, 2000):
        found = bootstrap(Votes(noisy(sizes=(queries,))), BORDA, samples=200)
        widths.append(np.diff(found.intervals(), axis=1).sum())
    assert widths[0] > widths[1]


def test_a_sample_without_a_system_says_nothing_of_it():
    values = np.array([[2.0, 1.0], [1.0, np.nan], [0.0, 2.0]])
    found = bootstrap(Votes(board(values, (1, 1))), BORDA, samples=400)
    assert np.isnan(found.places[1]).any()
    together = ~np.isnan(found.places[1])  # drawn twice, the first task has 0 above 1; else equal
    above = (found.places[0] < found.places[1])[together]
    assert found.above()[0, 1] == pytest.approx(above.mean() + (1 - above.mean()) / 2)
    assert np.isfinite(found.intervals()).all()


def test_collections_are_drawn_with_all_their_tasks():
    values = np.array([[3.0, 3, 0], [2, 2, 1], [1, 1, 2]])
    found = bootstrap(Votes(board(values, (1, 1, 1), ["a", "a", "b"])), BORDA, samples=300)
    assert found.resample == "collections"
    assert order_of(-np.median(found.places, axis=1))[0] == 0
    assert {1.0, 3.0} <= set(found.places[0])


def test_tasks_of_one_collection_are_drawn_together():
    values = np.array([[1.0, -1, 0], [-1, 1, 0]])  # equal, but where one task is drawn alone
    together = bootstrap(Votes(board(values, (1, 1, 1), ["a", "a", "b"])), MEAN, samples=100)
    assert (together.places == 1.5).all()
    apart = bootstrap(Votes(board(values, (1, 1, 1))), MEAN, samples=100)
    assert (apart.places != 1.5).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resample": "queries"}, "no queries to resample"),
        ({"resample": "tasks"}, "No way to resample 'tasks'"),
        ({"samples": 0}, "1 to 1,000,000 samples"),
        ({"rule": rules.build("kemeny")}, "too slow"),
    ],
)
def test_what_cannot_be_resampled_is_refused(options, message):
    scores = board([[1.0, 2.0], [2.0, 1.0]], (1, 1))
    with pytest.raises(UsageError, match=message):
        bootstrap(Votes(scores), options.pop("rule", BORDA), **options)


def test_one_collection_gives_no_collections_to_draw():
    scores = board(np.eye(2), (2,))
    with pytest.raises(UsageError, match="no collections to resample"):
        bootstrap(Votes(scores), BORDA, resample="both")
