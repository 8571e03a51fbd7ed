from statistics import NormalDist

import numpy as np
import pytest

from nas import catalogue
from predictors.features import BEYOND, DECISIONS_AND_PATHS, Beside, Decisions, Paths, Quantities, knowing
from search_spaces.architecture import Architecture
from search_spaces.catalogue import CATALOGUE, load_space
from search_spaces.catalogue.nas_bench_201 import from_ids, nas_bench_201
from search_spaces.encodings import encode
from search_spaces.moves import sample
from tests.nas.strategies.small_process import SmallProcess

CELLS = nas_bench_201()
NONE, SKIP, CONV1, CONV3, POOL = range(5)


def column(vectors, architecture: Architecture) -> dict[str, float]:
    row = dict(zip(vectors.names, vectors.of([architecture])[0], strict=True))
    return {name.partition(": ")[2]: value for name, value in row.items()}


def test_ways_are_counted_once_for_a_shared_cell_and_not_through_zero():
    # input -> 1 by conv3; 1 -> 3 by pool; input -> 3 by skip; input -> 2 by skip; 2 -> 3 by none
    cell = from_ids((CONV3, SKIP, NONE, SKIP, POOL, NONE))
    twice = from_ids((CONV3, CONV3, NONE, NONE, POOL, POOL))
    learnt = Paths().learn(CELLS, [cell, twice])
    assert column(learnt, cell) == {"nor_conv_3x3 > avg_pool_3x3": 1.0, "skip_connect": 1.0}
    assert column(learnt, twice) == {"nor_conv_3x3 > avg_pool_3x3": 2.0, "skip_connect": 0.0}


def test_most_keeps_the_ways_that_most_trials_have_and_unknown_ones_are_left_out():
    often, rare = from_ids((NONE, NONE, NONE, CONV3, NONE, NONE)), from_ids((NONE, NONE, NONE, POOL, NONE, NONE))
    learnt = Paths(most=1).learn(CELLS, [rare, often, often])
    assert column(learnt, often) == {"nor_conv_3x3": 1.0}
    assert column(learnt, rare) == {"nor_conv_3x3": 0.0}
    with pytest.raises(ValueError, match="at least one way"):
        Paths(most=0)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_default_works_on_every_space_of_the_catalogue(name):
    space, rng = load_space(name), np.random.default_rng(0)
    trials, others = [[sample(space, rng) for _ in range(10)] for _ in range(2)]
    vectors = DECISIONS_AND_PATHS.learn(space, trials)
    rows = vectors.of(others)
    assert rows.shape == (10, len(vectors.names))
    assert len(set(vectors.names)) == len(vectors.names)
    width = Decisions().learn(space, trials).of(others).shape[1]
    np.testing.assert_array_equal(rows[:, :width], encode(space, others))
    assert (rows.shape[1] > width) == (name == "nas_bench_201")
    np.testing.assert_array_equal(vectors.of(others[3:4])[0], rows[3])
    assert vectors.of([]).shape == (0, len(vectors.names))


def known_of(trials, *columns):
    """Quantities of these trials and of nothing else."""
    rows = dict(zip(trials, zip(*columns, strict=True), strict=True))
    return Quantities(
        tuple(f"q{place}" for place in range(len(columns))),
        lambda asked: np.array([rows[one] for one in asked], dtype=float).reshape(len(asked), len(columns)),
    )


def drawn(count):
    rng = np.random.default_rng(0)
    return list(dict.fromkeys(sample(CELLS, rng) for _ in range(2 * count)))[:count]


def test_quantities_stand_beside_other_columns_as_normal_quantiles_of_their_ranks():
    trials = drawn(9)
    values = np.array([5.0, -1e8, 3.0, 4.0, 1.0, 2.0, 7.0, 6.0, 8.0])
    both = Beside((Decisions(), known_of(trials, values))).learn(CELLS, trials)
    assert both.names[-1] == "q0"
    ranks = np.array([6, 1, 4, 5, 2, 3, 8, 7, 9])
    normal = np.array([NormalDist().inv_cdf((rank - 0.5) / 9) for rank in ranks])
    np.testing.assert_allclose(both.of(trials)[:, -1], normal / normal.std(), atol=1e-12)


def test_positive_quantities_that_vary_widely_are_interpolated_in_logarithms():
    trials = drawn(7)
    for values, between in ((10.0 ** np.arange(6), np.sqrt), (np.arange(1.0, 7.0), lambda product: product / 4)):
        asked = float(between(values[2] * values[3])) if between is np.sqrt else 3.5
        vectors = known_of(trials, [*values, asked]).learn(CELLS, trials[:6])
        low, high, middle = vectors.of([trials[2], trials[3], trials[6]])[:, 0]
        assert middle == pytest.approx((low + high) / 2)


def test_an_architecture_without_a_score_counts_as_the_worst_and_a_far_one_as_hardly_beyond_the_trials():
    trials = drawn(8)
    values = [3.0, np.nan, 1.0, 2.0, -np.inf, 5.0, 1e30, np.nan]
    vectors = known_of(trials, values).learn(CELLS, trials[:6])
    column = vectors.of(trials)[:, 0]
    assert column[1] == column[4] == column[7] == column[2] == column.min()
    assert column[6] == pytest.approx(column[:6].max() + BEYOND)
    assert (known_of(trials, [np.nan] * 8).learn(CELLS, trials).of(trials) == 0.0).all()
    assert (np.abs(known_of(trials, [2.0] * 7 + [9.0]).learn(CELLS, trials[:7]).of(trials)) <= BEYOND).all()


def test_quantities_of_another_shape_are_refused():
    broken = Quantities(("score",), lambda architectures: np.zeros(len(architectures)))
    with pytest.raises(ValueError, match=r"must be of shape \(5, 1\), got \(5,\)"):
        broken.learn(CELLS, drawn(5))


@pytest.mark.parametrize("name", [*catalogue.names("predictor")])
def test_every_predictor_is_told_more_or_says_that_it_cannot_be(name):
    trials = drawn(6)
    more = known_of(trials, range(6))
    predictor = catalogue.load("predictor", name, {}, given={"space": CELLS})
    told = knowing(predictor, more)
    assert type(told) is type(predictor)
    for member in getattr(told, "members", ()) if name == "stacked" else (told,):
        features = getattr(member, "beside", None) or member.features
        assert features.learn(CELLS, trials).names[-1] == "q0"
    assert knowing(told, more) != told


def test_a_predictor_that_can_be_told_nothing_is_refused():
    with pytest.raises(ValueError, match=r"SmallProcess takes no features: .* use another one, gaussian_process"):
        knowing(SmallProcess(CELLS), Decisions())
