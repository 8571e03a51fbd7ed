"""GraphNetwork and its parts: against messages passed by hand, pairs compared one by one, lines by least squares."""

import numpy as np
import pytest
import torch

from predictors import GraphNetwork
from predictors.features import Decisions, Quantities, knowing
from predictors.message_passing.batch import Graphs, bags
from predictors.message_passing.network import MessagePassing
from predictors.message_passing.ranking import LEAST_SLOPE, line, pairwise_hinge
from predictors.quality import kendall_tau
from search_spaces.architecture import Architecture
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.catalogue.residual_cnn import residual_cnn
from search_spaces.moves import sample
from search_spaces.nodes import Float
from search_spaces.space import SearchSpace

CELLS = nas_bench_201()
CHAINS = residual_cnn(stages=2, blocks=2)
NUMBERS = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
QUICK = {"members": 4, "width": 8, "hidden": (16,), "steps": 60}


def drawn(space, count, seed=0):
    rng = np.random.default_rng(seed)
    return [sample(space, rng) for _ in range(count)]


def by_hand(network, theta, graphs, bag, features):
    """One network's score of one architecture, node by node."""
    width, scale = network.width, np.sqrt(2.0)
    embedding = theta[: network.labels * width].reshape(network.labels, width)
    rest = theta[network.labels * width :]
    sums = [np.zeros(width) for _ in range(network.rounds + 1)]
    for block, times in bag.items():
        names = ["input", *block.labels, "output"]
        reads = [(), *block.reads, block.output]
        states = [embedding[graphs.labels[name]] if name in graphs.labels else np.zeros(width) for name in names]
        sums[0] = sums[0] + times * sum(states) / graphs.nodes
        at = 0
        for number in range(network.rounds):
            weights = rest[at : at + 3 * width * width].reshape(3 * width, width) * scale / np.sqrt(3 * width)
            shift = rest[at + 3 * width * width : at + (3 * width + 1) * width]
            after = []
            for node in range(len(names)):
                read = sum((count * states[other] for other, count in reads[node]), np.zeros(width))
                back = [
                    count * states[reader] for reader in range(len(names)) for o, count in reads[reader] if o == node
                ]
                around = np.concatenate([states[node], read, sum(back, np.zeros(width))])
                after.append(np.maximum(around @ weights + shift, 0.0))
            states = after
            at += (3 * width + 1) * width
            sums[number + 1] = sums[number + 1] + times * sum(states) / graphs.nodes
    end = torch.from_numpy(rest[network.rounds * (3 * width + 1) * width :])[None]
    row = torch.from_numpy(np.concatenate([*sums, features]))[None]
    return float(network.end.outputs_of(end, row)[0, 0, 0])


@pytest.mark.parametrize("space", [CELLS, CHAINS], ids=["cells", "chains"])
def test_messages_go_along_the_edges_both_ways(space):
    asked = bags(space, drawn(space, 5))
    graphs = Graphs.learn(asked[:3])  # labels that only the others have are unknown
    network = MessagePassing(labels=len(graphs.labels), features=2, width=4, rounds=2, hidden=(3,))
    theta = network.draw(2, torch.Generator().manual_seed(0))
    features = np.random.default_rng(0).normal(size=(5, 2))
    found = network.scores(theta, graphs.of(asked), torch.from_numpy(features))
    expected = [
        [by_hand(network, one.numpy(), graphs, bag, row) for bag, row in zip(asked, features, strict=True)]
        for one in theta
    ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_the_loss_is_the_mean_shortfall_over_the_pairs_that_a_network_sees():
    rng = np.random.default_rng(0)
    scores, values = rng.normal(size=(2, 6)), rng.integers(4, size=6).astype(float)
    seen = rng.random((2, 6)) < 0.7
    worse = (values[:, None] > values)[None] & seen[:, :, None] & seen[:, None, :]
    found = pairwise_hinge(torch.from_numpy(scores), torch.from_numpy(worse).double(), 0.3)
    for member in range(2):
        shortfalls = [
            max(0.0, 0.3 - (scores[member, a] - scores[member, b]))
            for a in range(6)
            for b in range(6)
            if values[a] > values[b] and seen[member, a] and seen[member, b]
        ]
        assert float(found[member]) == pytest.approx(np.mean(shortfalls))
    assert float(pairwise_hinge(torch.ones(1, 3), torch.zeros(1, 3, 3), 0.1)) == 0.0


def test_the_line_is_that_of_least_squares_with_two_trials_more():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=12)
    losses = 0.6 * scores + 0.3 * rng.normal(size=12)
    found = line(scores, losses)
    slope, offset = np.polyfit([*scores, 1.0, -1.0], [*losses, 1.0, -1.0], 1)
    assert (found.slope, found.offset) == pytest.approx((slope, offset))
    errors = losses - offset - slope * scores
    assert found.variance == pytest.approx(((errors**2).sum() + 2.0) / 14.0)
    assert tuple(line(np.zeros(0), np.zeros(0))) == pytest.approx((0.0, 1.0, 1.0))
    assert line(scores, -5.0 * scores).slope == LEAST_SLOPE


def test_an_order_of_networks_is_learnt_from_their_graphs_alone():
    trials, asked = drawn(CELLS, 80), drawn(CELLS, 100, seed=1)

    def chained(cells):
        """How many convolutions stand one behind the other: no count of operations tells that."""
        return np.array(
            [
                -sum(
                    (str(cell[f"cell/0->{node}"]).startswith("nor_conv"))
                    * (str(cell[f"cell/{node}->3"]).startswith("nor_conv"))
                    for node in (1, 2)
                )
                for cell in cells
            ],
            dtype=float,
        )

    mean = GraphNetwork(CELLS, **QUICK | {"members": 2, "steps": 80}).fit(trials, chained(trials)).predict(asked).mean
    worse = chained(asked)[:, None] > chained(asked)[None, :]
    assert (mean[:, None] > mean[None, :])[worse].mean() > 0.85


def test_cells_that_compute_the_same_are_believed_the_same():
    trials = drawn(CELLS, 20)
    posterior = GraphNetwork(CELLS, **QUICK).fit(trials, np.random.default_rng(0).normal(size=20))
    one, other = (
        Architecture(
            {f"cell/{edge}": "none" for edge in ("0->1", "0->2", "0->3", "1->2", "1->3", "2->3")}
            | {f"cell/0->{node}": "nor_conv_3x3", f"cell/{node}->3": "skip_connect"}
        )
        for node in (1, 2)
    )
    belief = posterior.predict([one, other])
    assert belief.mean[0] == pytest.approx(belief.mean[1], rel=1e-12)
    assert belief.variance[0] == pytest.approx(belief.variance[1], rel=1e-12)


def test_members_know_what_they_have_not_seen_and_their_errors_are_the_doubt():
    rng = np.random.default_rng(0)
    trials = drawn(NUMBERS, 120)
    losses = np.array([3.0 * float(a["x"]) for a in trials]) + 0.5 * rng.normal(size=120)
    posterior = GraphNetwork(NUMBERS, **QUICK, warp="none").fit(trials, losses)
    left_out = posterior.left_out
    errors = (losses - left_out.mean) ** 2
    assert errors.mean() == pytest.approx(left_out.variance.mean(), rel=0.1)
    asked = drawn(NUMBERS, 200, seed=1)
    truth = np.array([3.0 * float(a["x"]) for a in asked]) + 0.5 * rng.normal(size=200)
    belief = posterior.predict(asked)
    assert 0.5 < np.mean((truth - belief.mean) ** 2 / belief.variance) < 1.5


def test_losses_without_a_pattern_leave_little_but_the_mean():
    trials, asked = drawn(CELLS, 60), drawn(CELLS, 50, seed=1)
    losses = np.random.default_rng(0).normal(size=60)
    belief = GraphNetwork(CELLS, **QUICK, warp="none").fit(trials, losses).predict(asked)
    assert belief.mean.std() < 0.5 * losses.std()
    assert (belief.variance > 0.5 * losses.var()).all()


def test_more_trials_than_a_batch_are_all_learnt_from():
    trials, asked = drawn(NUMBERS, 60), drawn(NUMBERS, 60, seed=1)

    def loss_of(architectures):
        return np.array([float(a["x"]) for a in architectures])

    predictor = GraphNetwork(NUMBERS, **QUICK, batch=10)
    assert kendall_tau(predictor.fit(trials, loss_of(trials)).predict(asked).mean, loss_of(asked)) > 0.7


def test_repeats_are_left_out_together_and_two_trials_leave_nobody_out():
    one, two = drawn(NUMBERS, 2)
    assert GraphNetwork(NUMBERS, **QUICK).fit([one, two], np.array([0.0, 1.0])).left_out is None
    trials = drawn(NUMBERS, 5) * 3
    seen = GraphNetwork(NUMBERS, members=4)._seen(trials)
    assert (seen.sum(axis=0) == 3).all()
    assert (seen[:, :5] == seen[:, 5:10]).all()


def test_quantities_stand_beside_the_graph():
    trials, asked = drawn(CELLS, 40), drawn(CELLS, 60, seed=1)
    of = dict(zip([*trials, *asked], np.random.default_rng(0).normal(size=100).tolist(), strict=True))
    told = knowing(
        GraphNetwork(CELLS, **QUICK), Quantities(("score",), lambda cells: np.array([[of[c]] for c in cells]))
    )
    losses, truth = (np.array([of[cell] for cell in cells]) for cells in (trials, asked))
    assert kendall_tau(told.fit(trials, losses).predict(asked).mean, truth) > 0.6
    alone = GraphNetwork(CELLS, **QUICK).fit(trials, losses).predict(asked).mean
    assert abs(kendall_tau(alone, truth)) < 0.3


def test_nothing_asked_is_nothing_answered():
    posterior = GraphNetwork(CELLS, **QUICK).fit(drawn(CELLS, 5), np.arange(5.0))
    assert posterior.predict([]).mean.shape == (0,)


def test_settings_out_of_range_are_refused():
    for settings in (
        {"members": 1},
        {"batch": 1},
        {"width": 0},
        {"rounds": 0},
        {"steps": 0},
        {"margin": 0.0},
        {"learning_rate": float("nan")},
        {"decay": -1.0},
        {"hidden": (0,)},
        {"warp": "log"},
    ):
        with pytest.raises(ValueError, match=r"at least|positive|allowed"):
            GraphNetwork(CELLS, features=Decisions(), **settings)
