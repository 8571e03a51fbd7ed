"""Effects of sub-trees: against differences of the covariance itself, and against losses whose causes are known."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import cho_solve

from predictors import GaussianProcess, RandomForest
from predictors.feature_effects import feature_effects, subtree_process
from predictors.kernels.blocks import blocks
from predictors.kernels.composition import Distances
from predictors.kernels.graph_counts import subtree_counts
from predictors.stacked import Stacked
from predictors.subgraphs import Subtree, subtrees
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.catalogue.residual_cnn import residual_cnn
from search_spaces.moves import sample
from search_spaces.nodes import Float
from search_spaces.space import SearchSpace

CELLS = nas_bench_201(cells=1, stages=1)
JOINT = residual_cnn(stages=1, blocks=2)
LINE = SearchSpace({"x": Float(0.0, 1.0)})


def drawn(space, count, seed=0):
    rng = np.random.default_rng(seed)
    return [sample(space, rng) for _ in range(count)]


def by_differences(latent, depth, column, step=1e-3):
    """Mean and deviation of an effect: the process asked about trials that have a little more or less of a feature."""
    composition, parameters, distances, lower = subtree_process(latent)
    roots = latent.rows.table.counts[depth].toarray()
    has = np.flatnonzero(roots[:, column] > 0.0)

    def moved(by):
        found = roots[has].copy()
        found[:, column] = np.sqrt(found[:, column] ** 2 + by)
        return found

    def covariance(first, second, rows, columns):
        graph = [squared[np.ix_(rows, columns)] for squared in distances.graph]
        graph[depth] = ((first[:, None] - second[None]) ** 2).sum(axis=2)
        vectors = tuple(vector[:, rows[:, None], columns] for vector in distances.vectors)
        return composition.covariance(parameters, Distances(tuple(graph), vectors))

    everyone = np.arange(len(roots))
    up, down = moved(step), moved(-step)
    across = (covariance(up, roots, has, everyone) - covariance(down, roots, has, everyone)).mean(axis=0) / (2 * step)
    prior = (
        sum(
            sign * covariance(a, b, has, has).mean()
            for sign, a, b in ((1, up, up), (-1, up, down), (-1, down, up), (1, down, down))
        )
        / (2 * step) ** 2
    )
    mean = across @ cho_solve((lower, True), latent.scores)
    variance = prior - across @ cho_solve((lower, True), across)
    return mean, np.sqrt(max(variance, 0.0))


@pytest.mark.parametrize("space", [CELLS, JOINT], ids=["cells", "cells and decisions"])
def test_effects_are_those_of_a_little_more_of_a_feature(space):
    trials = drawn(space, 15)
    losses = np.random.default_rng(1).normal(size=15)
    posterior = GaussianProcess(space, warp="none").fit(trials, losses)
    assert posterior.latent.comparison.composition.has_product == (space is JOINT)
    names = posterior.latent.comparison.likeness.names(posterior.latent.rows.table)
    found = feature_effects(posterior, most=1000)
    assert {effect.depth for effect in found} == {0, 1}
    for effect in found[:6] + found[-2:]:
        column = names[effect.depth].index(effect.subtree.feature)
        mean, deviation = by_differences(posterior.latent, effect.depth, column)
        assert effect.mean == pytest.approx(losses.std() * mean, rel=1e-4, abs=1e-7)
        assert effect.deviation == pytest.approx(losses.std() * deviation, rel=2e-3, abs=1e-5)


def test_what_lowers_the_loss_comes_first_with_its_sign_and_little_doubt():
    trials = drawn(CELLS, 80)
    losses = np.array(
        [
            -2.0 * sum(subtree_counts(block, 0)[0].get("nor_conv_3x3", 0.0) for block in blocks(CELLS, trial))
            + sum(subtree_counts(block, 0)[0].get("avg_pool_3x3", 0.0) for block in blocks(CELLS, trial))
            for trial in trials
        ]
    )
    best, second, *_ = feature_effects(GaussianProcess(CELLS, warp="none").fit(trials, losses))
    assert (best.subtree.label, second.subtree.label) == ("nor_conv_3x3", "avg_pool_3x3")
    assert best.mean < -4.0 * best.deviation
    assert second.mean > 2.0 * second.deviation
    assert best.mean == pytest.approx(-2.0, rel=0.3)
    assert best.trials == sum("nor_conv_3x3" in tree for tree in map(labels, trials))


def labels(trial):
    return {label for block in blocks(CELLS, trial) for label in block.labels}


def test_sub_trees_are_those_that_are_counted():
    for architecture in [*drawn(CELLS, 30), *drawn(JOINT, 5)]:
        space = CELLS if len(architecture) == 6 else JOINT
        for block in blocks(space, architecture):
            for depth in range(4):
                found = Counter(tree.feature for tree in subtrees(block, depth))
                assert found == Counter(subtree_counts(block, depth)[depth])


def test_a_sub_tree_has_nodes_edges_and_a_drawing():
    leaf = Subtree("input")
    tree = Subtree("output", (Subtree("conv", (leaf, leaf)), leaf))
    assert tree.nodes == ("output", "conv", "input", "input", "input")
    assert tree.edges == ((1, 0), (2, 1), (3, 1), (4, 0))
    assert tree.feature == "output(conv(input,input),input)"
    assert tree.drawn().splitlines() == [
        "output",
        "├── conv",
        "│   ├── input",
        "│   └── input",
        "└── input",
    ]


def test_an_effect_is_drawn_with_its_figures_and_in_units_of_the_losses():
    trials = drawn(CELLS, 20)
    losses = np.random.default_rng(3).normal(size=20)
    (effect,) = feature_effects(GaussianProcess(CELLS).fit(trials, losses), most=1)
    (other,) = feature_effects(GaussianProcess(CELLS).fit(trials, 100.0 * losses + 7.0), most=1)
    assert other.mean == pytest.approx(100.0 * effect.mean, rel=1e-6)
    assert other.deviation == pytest.approx(100.0 * effect.deviation, rel=1e-6)
    first, *rest = effect.drawn().splitlines()
    assert first.startswith(f"{effect.mean:+.3g} ± ")
    assert rest == effect.subtree.drawn().splitlines()


def test_of_a_stack_they_are_those_of_its_gaussian_process_in_units_of_the_losses():
    trials = drawn(CELLS, 20)
    losses = np.exp(np.random.default_rng(3).normal(size=20))
    members = (RandomForest(CELLS, trees=2), GaussianProcess(CELLS))
    stack = Stacked(CELLS, members).fit(trials, losses)
    member = stack.members[1]
    apart = member.warp.inverse(np.array([-0.5, 0.5]))
    unit = np.diff(stack.warp.inverse(apart)) / np.diff(apart)
    found, expected = feature_effects(stack), feature_effects(member)
    assert [effect.subtree for effect in found] == [effect.subtree for effect in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.mean == pytest.approx(float(unit[0]) * other.mean)
        assert one.deviation == pytest.approx(float(unit[0]) * other.deviation)
    with pytest.raises(ValueError, match="among the members of the stack is none: EnsemblePosterior; fit"):
        feature_effects(Stacked(CELLS, members[:1]).fit(trials, losses))


def test_of_two_processes_in_a_stack_the_one_that_weighs_most_is_asked():
    trials = drawn(CELLS, 20)
    stack = Stacked(CELLS, (GaussianProcess(CELLS), GaussianProcess(CELLS, warp="none"))).fit(trials, np.arange(20.0))
    for weights, heavy in (([0.2, 0.8], 1), ([0.8, 0.2], 0)):
        alone = replace(stack, members=stack.members[heavy : heavy + 1], weights=np.ones(1), widths=np.ones(1))
        assert feature_effects(replace(stack, weights=np.array(weights))) == feature_effects(alone)


def test_a_space_without_networks_has_no_effects_and_other_predictors_are_refused():
    line, losses = drawn(LINE, 8), np.arange(8.0)
    assert feature_effects(GaussianProcess(LINE).fit(line, losses)) == ()
    with pytest.raises(ValueError, match="got EnsemblePosterior"):
        feature_effects(RandomForest(LINE, trees=2).fit(line, losses))
    with pytest.raises(ValueError, match="most"):
        feature_effects(GaussianProcess(LINE).fit(line, losses), most=0)
    constant = feature_effects(GaussianProcess(CELLS).fit(drawn(CELLS, 8), np.ones(8)))
    assert all(effect.mean == 0.0 for effect in constant)
