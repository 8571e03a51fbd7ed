"""Forests, boosted trees, networks over paths, and the stack of several."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import dirichlet, norm
from sklearn.ensemble import RandomForestRegressor

from nas import catalogue
from nas.acquisitions.normal import log_expected_improvement
from predictors import GaussianProcess, GradientBoosting, PathEnsemble, RandomForest, Stacked
from predictors.ensemble import unexplained
from predictors.predictor import Belief
from predictors.stacked import stacking_weights
from predictors.structures import STRUCTURES
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.loading import ImportRefused
from search_spaces.moves import sample
from search_spaces.nodes import Float
from search_spaces.space import SearchSpace

CELLS = nas_bench_201()
LINE = SearchSpace({"x": Float(0.0, 1.0)})


def drawn(space, count, seed=0):
    rng = np.random.default_rng(seed)
    return [sample(space, rng) for _ in range(count)]


def convolutions(architectures):
    return np.array(
        [-sum(str(value).startswith("nor_conv") for value in cell.values()) for cell in architectures], float
    )


def test_a_forests_variance_is_that_between_trees_and_within_leaves():
    trials, asked = drawn(CELLS, 50), drawn(CELLS, 9, seed=1)
    losses = convolutions(trials) + np.random.default_rng(0).normal(size=50)
    posterior = RandomForest(CELLS, trees=30, leaf=4, warp="none", seed=3).fit(trials, losses)
    vectors = STRUCTURES.learn(CELLS, trials)

    def rows(architectures):
        return np.concatenate([vectors.of(architectures), np.zeros((len(architectures), 1))], axis=1)

    forest = RandomForestRegressor(30, min_samples_leaf=4, max_features=1 / 3, random_state=3).fit(
        rows(trials), (losses - losses.mean()) / losses.std()
    )
    belief = posterior.predict(asked)
    np.testing.assert_allclose(belief.mean, losses.mean() + losses.std() * forest.predict(rows(asked)), rtol=1e-6)

    within = np.zeros(9)
    between = np.stack([tree.predict(rows(asked)) for tree in forest.estimators_]).var(axis=0, ddof=1)
    for tree, places in zip(forest.estimators_, forest.estimators_samples_, strict=True):
        leaves, at = tree.apply(rows(trials))[places], tree.apply(rows(asked))
        scores = ((losses - losses.mean()) / losses.std())[places]
        within += [scores[leaves == leaf].var() / 30 for leaf in at]
    np.testing.assert_allclose(belief.variance, losses.var() * (between + within), rtol=1e-6)


@pytest.mark.parametrize("predictor", [RandomForest(CELLS), GradientBoosting(CELLS, members=6, trees=30)])
def test_what_is_left_out_of_the_bag_is_less_sure_and_less_right_than_what_was_seen(predictor):
    trials = drawn(CELLS, 60)
    losses = convolutions(trials) + np.random.default_rng(0).normal(size=60)
    posterior = predictor.fit(trials, losses)
    seen, unseen = posterior.predict(trials), posterior.left_out
    assert np.mean((seen.mean - losses) ** 2) < 0.7 * np.mean((unseen.mean - losses) ** 2)
    assert np.mean((unseen.mean - losses) ** 2) < losses.var()


@pytest.mark.parametrize(
    "predictor",
    [RandomForest(CELLS), GradientBoosting(CELLS, members=4), PathEnsemble(CELLS, steps=100)],
    ids=["forest", "boosting", "networks"],
)
def test_what_networks_consist_of_is_learnt(predictor):
    trials, asked = drawn(CELLS, 80), drawn(CELLS, 80, seed=1)
    mean = predictor.fit(trials, convolutions(trials)).predict(asked).mean
    # some convolutions lead nowhere and are no part of the network: not all can be known
    assert np.corrcoef(mean, convolutions(asked))[0, 1] > 0.5


def test_networks_disagree_more_where_no_trial_was():
    trials = [LINE.validate({"x": x}) for x in np.linspace(0.0, 0.4, 20).tolist()]
    losses = np.array([np.sin(8.0 * float(trial["x"])) for trial in trials])
    posterior = PathEnsemble(LINE, hidden=(32,), decay=0.01).fit(trials, losses)
    near, far = posterior.predict([LINE.validate({"x": 0.2}), LINE.validate({"x": 1.0})]).variance
    assert far > 4.0 * near


def test_what_functions_err_by_together_is_found_by_those_that_have_not_seen_a_trial():
    rng = np.random.default_rng(0)
    wanted, unseen = rng.normal(size=4000), rng.random((8, 4000)) < 0.4
    together = wanted + 2.0 * rng.normal(size=4000)
    assert unexplained(wanted, together + 0.1 * rng.normal(size=(8, 4000)), unseen) == pytest.approx(4.0, rel=0.1)
    assert unexplained(wanted, wanted + 3.0 * rng.normal(size=(8, 4000)), unseen) == 0.0
    assert unexplained(wanted, together[None] + np.zeros((8, 1)), np.zeros_like(unseen)) == 0.0


def test_boosted_trees_doubt_as_much_as_they_err():
    trials, asked = drawn(CELLS, 60), drawn(CELLS, 100, seed=1)
    noise = np.random.default_rng(0).normal(size=160)
    posterior = GradientBoosting(CELLS, trees=50).fit(trials, convolutions(trials) + noise[:60])
    belief = posterior.predict(asked)
    squares = (convolutions(asked) + noise[60:] - belief.mean) ** 2
    assert 0.6 < np.mean(squares / belief.variance) < 1.6


def test_the_improvement_by_trees_is_that_of_a_normal_loss_where_nothing_is_warped():
    trials, asked = drawn(CELLS, 20), drawn(CELLS, 5, seed=1)
    posterior = RandomForest(CELLS, trees=10, warp="none").fit(trials, convolutions(trials))
    belief = posterior.predict(asked)
    expected = log_expected_improvement(belief.mean, np.sqrt(belief.variance), -3.0)
    np.testing.assert_allclose(posterior.log_improvement(asked, -3.0), expected, rtol=1e-9)


def test_the_improvement_by_a_stack_is_that_of_its_draws():
    trials, asked = drawn(LINE, 12), drawn(LINE, 4, seed=1)
    losses = np.exp(10.0 * np.array([np.sin(5.0 * float(trial["x"])) for trial in trials]))
    members = (GaussianProcess(LINE, warp="none"), Nonsense())
    posterior = replace(Stacked(LINE, members=members).fit(trials, losses), weights=np.array([0.7, 0.3]))
    best = float(np.sort(losses)[3])
    drawn_losses = posterior.sample(asked, 200_000, np.random.default_rng(0))
    expected = np.maximum(best - drawn_losses, 0.0).mean(axis=0)
    np.testing.assert_allclose(np.exp(posterior.log_improvement(asked, best)), expected, rtol=0.03)
    # a member that weighs as good as nothing, or nothing, changes nothing
    alone = replace(posterior, weights=np.array([1.0, 0.0])).log_improvement(asked, best)
    beside = replace(posterior, weights=np.array([1.0, 1e-320])).log_improvement(asked, best)
    np.testing.assert_allclose(beside, alone, rtol=1e-9)


@pytest.mark.parametrize("prior", [0.0, 3.0])
def test_weights_are_the_most_probable_ones_on_a_grid(prior):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=60)
    good, poor = (
        Belief(scores + 0.3 * rng.normal(size=60), np.full(60, 0.09)),
        Belief(np.zeros(60), np.full(60, 1.0)),
    )
    means, variances = np.stack([good.mean, poor.mean]), np.stack([good.variance, poor.variance])
    weights = stacking_weights(means, variances, scores, prior)
    grid = np.linspace(0.0005, 0.9995, 1000)[:, None]
    mean = grid * means[0] + (1.0 - grid) * means[1]
    square = grid * (variances[0] + means[0] ** 2) + (1.0 - grid) * (variances[1] + means[1] ** 2)
    logs = norm(mean, np.sqrt(square - mean**2)).logpdf(scores).sum(axis=1)
    logs += dirichlet([1.0 + prior] * 2).logpdf(np.hstack([grid, 1.0 - grid]).T)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[0] == pytest.approx(grid[logs.argmax(), 0], abs=0.005)
    assert weights[0] > 0.9


def test_members_whose_errors_cancel_weigh_the_same_and_equals_share():
    rng = np.random.default_rng(0)
    scores, error = rng.normal(size=(2, 40))
    means, variances = np.stack([scores + error, scores - error, 2.0 * error]), np.full((3, 40), 0.5)
    np.testing.assert_allclose(stacking_weights(means, variances, scores), [0.5, 0.5, 0.0], atol=0.05)
    equal = np.repeat(means[:1], 4, axis=0), np.repeat(variances[:1], 4, axis=0)
    np.testing.assert_allclose(stacking_weights(*equal, scores), 0.25, atol=1e-4)


class Nonsense:
    """Sure of what has nothing to do with the losses, and says nothing about trials left out."""

    noise = 0.01

    def fit(self, architectures, losses):
        return self

    def predict(self, architectures):
        means = np.array([np.sin(1e4 * float(architecture["x"])) for architecture in architectures])
        return Belief(3.0 * means, np.full(len(means), 0.01))

    def sample(self, architectures, count, rng):
        return self.predict(architectures).mean + 0.1 * rng.standard_normal((count, len(architectures)))


def test_a_poor_member_of_a_stack_costs_little():
    trials, asked = drawn(LINE, 30), drawn(LINE, 50, seed=1)
    losses, truth = (
        np.array([np.sin(5.0 * float(a["x"])) for a in architectures]) for architectures in (trials, asked)
    )
    good = GaussianProcess(LINE)
    alone = good.fit(trials, losses).predict(asked)
    posterior = Stacked(LINE, members=(good, Nonsense())).fit(trials, losses)
    assert posterior.weights[0] > 0.95
    assert posterior.widths[1] > 10.0
    error, error_alone = (np.sqrt(np.mean((b.mean - truth) ** 2)) for b in (posterior.predict(asked), alone))
    assert error < error_alone + 0.1 * losses.std()


def test_a_stack_is_conditioned_member_by_member_and_keeps_its_weights():
    trials, pending, asked = drawn(LINE, 20), drawn(LINE, 2, seed=1), drawn(LINE, 6, seed=2)
    losses = np.array([np.sin(5.0 * float(trial["x"])) for trial in trials])
    process, forest = GaussianProcess(LINE), RandomForest(LINE, trees=10)
    posterior = Stacked(LINE, members=(process, forest)).fit(trials, losses)
    expected = posterior.predict(pending).mean + 0.1
    both = posterior.condition(pending, expected)
    assert (both.weights == posterior.weights).all()
    assert (both.widths == posterior.widths).all()

    scores = posterior.warp.forward(losses)
    more = posterior.warp.forward(expected)
    by_hand = [
        process.fit(trials, scores).condition(pending, more),
        forest.fit([*trials, *pending], np.append(scores, more)),
    ]
    for member, known in zip(both.members, by_hand, strict=True):
        np.testing.assert_allclose(member.predict(asked).mean, known.predict(asked).mean, rtol=1e-9)
    one_by_one = posterior.condition(pending[:1], expected[:1]).condition(pending[1:], expected[1:])
    np.testing.assert_allclose(one_by_one.predict(asked).mean, both.predict(asked).mean, rtol=1e-9)
    near, before = both.predict(pending).mean, posterior.predict(pending).mean
    assert (near > before).all()
    assert posterior.condition([], np.array([])) is posterior


def test_members_are_named_or_given_and_unknown_names_are_refused():
    assert [type(member).__name__ for member in Stacked(CELLS).members] == [
        "GaussianProcess",
        "RandomForest",
        "GradientBoosting",
    ]
    for members in ((), "gaussian_process", ("nobody",), ("stacked",)):
        with pytest.raises(ValueError, match="members"):
            Stacked(CELLS, members=members)


def test_settings_out_of_range_are_refused():
    for made in (
        lambda: RandomForest(CELLS, trees=1),
        lambda: RandomForest(CELLS, columns=0.0),
        lambda: GradientBoosting(CELLS, members=1),
        lambda: GradientBoosting(CELLS, share=1.5),
        lambda: PathEnsemble(CELLS, members=1),
        lambda: PathEnsemble(CELLS, learning_rate=float("nan")),
        lambda: PathEnsemble(CELLS, hidden=(0,)),
        lambda: Stacked(CELLS, folds=1),
        lambda: RandomForest(CELLS, warp="log"),
    ):
        with pytest.raises(ValueError, match=r"at least|above 0|positive|allowed"):
            made()


class OwnForest(RandomForest):
    """A predictor that is not ours."""


OWN = f"{__name__}:OwnForest"


@pytest.mark.parametrize("member", [OWN, {"name": OWN, "trees": 7}])
def test_a_stack_has_members_of_ones_own_where_they_may_be_imported_from(member):
    settings = {"members": [member, "random_forest"]}
    made = catalogue.load("predictor", "stacked", settings, allow=[__name__], given={"space": LINE})
    assert [type(one).__name__ for one in made.members] == ["OwnForest", "RandomForest"]
    assert made.members[0].trees == (7 if isinstance(member, dict) else 100)
    with pytest.raises(ImportRefused):
        catalogue.load("predictor", "stacked", settings, given={"space": LINE})
    with pytest.raises(ValueError, match="allowing"):
        Stacked(LINE, members=[member]).fit(drawn(LINE, 3), np.arange(3.0))


def test_a_path_to_no_predictor_is_refused():
    for wrong in (f"{__name__}:drawn", "predictors.stacked:Stacked", f"{__name__}:pytest"):
        with pytest.raises(ValueError, match=r"members|module"):
            Stacked(LINE, members=[wrong]).allowing([__name__])


def test_a_path_ensembles_variances_hold_what_its_members_err_together():
    space = SearchSpace({"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0)}, name="plane")
    trials, asked = drawn(space, 30), drawn(space, 100, seed=1)

    def bowl(architectures):
        return np.array([one["x"] ** 2 + one["y"] ** 2 for one in architectures])

    losses = bowl(trials) + 0.01 * np.random.default_rng(0).standard_normal(30)
    posterior = PathEnsemble(space, steps=100).fit(trials, losses)
    belief = posterior.predict(asked)
    squares = (bowl(asked) - belief.mean) ** 2 / belief.variance
    assert 0.05 < squares.mean() < 4.0
    assert posterior.left_out is not None
    plain = replace(posterior, shared=0.0).predict(asked)
    np.testing.assert_array_equal(plain.mean, belief.mean)
    assert (plain.variance < belief.variance).all()
    assert PathEnsemble(space, steps=5).fit(trials[:2], losses[:2]).left_out is None
