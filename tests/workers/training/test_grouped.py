"""Networks trained together become what each becomes alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from search_spaces import sample
from search_spaces.build import build
from search_spaces.catalogue.mlp import mlp
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from workers.calling import GivenUp
from workers.datasets.dataset import Examples
from workers.datasets.prepare import SplitSettings, prepare
from workers.state_file import write_state
from workers.training.finite import NanLoss
from workers.training.grouped import Member, company, train_together
from workers.training.grouped_network import GroupedNetwork, perceptron
from workers.training.loop import TrainingResult, train
from workers.training.seeding import seeded
from workers.training.seeding import threads as torch_threads
from workers.training.settings import TrainingSettings

KINDS = {"layers": 3, "widths": (3, 4, 8), "activations": ("relu", "gelu", "tanh"), "training": False}
SPACE = mlp(**KINDS)
WITHOUT_BATCH_NORM = mlp(**KINDS, normalizations=("none", "layer"))
"""For AdamW: the gradient of a bias before batch normalisation is 0 but for rounding, which its steps make large."""
SETTINGS = TrainingSettings(epochs=2, batch_size=16, precision="float32")


@pytest.fixture(autouse=True)
def one_thread():
    with torch_threads(1):
        yield


def task(kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 5)).astype(np.float32)
    y = (x[:, 0] > x[:, 1]).astype(np.int64) if kind == "classification" else x @ rng.normal(size=(5, 2))
    return prepare(Examples(inputs=x, targets=y), SplitSettings(), name="small")


@pytest.fixture(scope="module")
def classes():
    return task("classification")


def networks(data, count, space=SPACE):
    rng = np.random.default_rng(1)
    built = []
    for seed in range(count):
        with seeded(seed):
            built.append(build(space, sample(space, rng), data.input_shape, data.outputs))
    return built


def settings_of(count, **common):
    common = {"optimizer": "sgd", **common}
    rng = np.random.default_rng(2)
    return [
        replace(
            SETTINGS,
            learning_rate=float(10 ** rng.uniform(-3, -1)),
            weight_decay=float(10 ** rng.uniform(-4, -1)),
            momentum=float(rng.uniform(0.5, 0.95)),
            schedule=str(rng.choice(["cosine", "one_cycle", "constant"])),
            **common,
        )
        for _ in range(count)
    ]


class Log(list):
    """What was reported; ends the training at a step, or raises."""

    def __init__(self, *, stop_at=None, error=None):
        self.stop_at, self.error = stop_at, error

    def __call__(self, epoch, scores):
        self.append((epoch, dict(scores)))
        if self.error is not None:
            raise self.error
        return epoch == self.stop_at


class Kept:
    """A keeper that remembers the last state."""

    def __init__(self, path, *, due=False):
        self.path, self.due, self.epochs = path, due, []

    def is_due(self):
        return self.due

    def keep(self, epochs, state):
        self.epochs.append(epochs)
        write_state(self.path, state)


def alone(network, data, settings, seed, **more):
    log = Log()
    result = train(network, data, settings, seed=seed, report=log, **more)
    return log, result


def together(built, data, settings, **more):
    logs = [Log() for _ in built]
    members = [
        Member(
            network=network,
            settings=one,
            seed=seed,
            report=log,
            **{name: values[seed] for name, values in more.items()},
        )
        for seed, (network, one, log) in enumerate(zip(built, settings, logs, strict=True))
    ]
    return logs, dict(train_together(members, data))


def assert_same(log, other, result, known, *, rtol=1e-4):
    assert [epoch for epoch, _ in log] == [epoch for epoch, _ in other]
    for (_, one), (_, two) in zip(log, other, strict=True):
        assert one == pytest.approx(two, rel=rtol, abs=rtol)
    assert result.scores == pytest.approx(known.scores, rel=rtol, abs=rtol)
    assert (result.epochs, result.stopped) == (known.epochs, known.stopped)


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_candidates_of_all_kinds_train_together_as_each_does_alone(kind, optimizer):
    data, count = task(kind), 8
    more = {"label_smoothing": 0.1} if kind == "classification" else {"gradient_clip": 0.3}
    settings = settings_of(count, optimizer=optimizer, **more)
    settings[0] = replace(settings[0], label_smoothing=0.0, gradient_clip=0.0)
    space = SPACE if optimizer == "sgd" else WITHOUT_BATCH_NORM
    built = networks(data, count, space)
    assert {len(perceptron(network).layers) for network in built} == {1, 2, 3}
    known = [alone(network, data, settings[seed], seed) for seed, network in enumerate(built)]
    logs, results = together(networks(data, count, space), data, settings)
    assert sorted(results) == list(range(count))
    for place in range(count):
        assert_same(logs[place], known[place][0], results[place], known[place][1])


def test_with_sgd_the_weights_and_running_means_are_the_same_too(classes):
    settings = settings_of(6, optimizer="sgd")
    first, second = networks(classes, 6), networks(classes, 6)
    for seed, network in enumerate(first):
        alone(network, classes, settings[seed], seed)
    together(second, classes, settings)
    for one, other in zip(first, second, strict=True):
        for name, tensor in one.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_afterwards_each_network_has_numbers_of_its_own_and_plain_modules(classes):
    built = networks(classes, 3)
    together(built, classes, settings_of(3))
    for network in built:
        for tensor in (*network.parameters(), *network.buffers()):
            assert tensor.untyped_storage().nbytes() == tensor.nbytes
        assert all(parameter.grad is None for parameter in network.parameters())
    program = torch.export.export(built[0].eval(), (torch.zeros(2, *classes.input_shape),))
    assert "linear" in str(program.graph)
    assert "nas." not in str(program.graph)


def test_a_candidate_with_nan_fails_alone(classes):
    settings = settings_of(4)
    known = [alone(network, classes, settings[seed], seed) for seed, network in enumerate(networks(classes, 4))]
    settings[2] = replace(settings[2], learning_rate=1e30)
    logs, results = together(networks(classes, 4), classes, settings)
    assert isinstance(results.pop(2), NanLoss)
    for place, result in results.items():
        assert_same(logs[place], known[place][0], result, known[place][1])


@pytest.mark.parametrize("error", [None, GivenUp(), ValueError("no more")])
def test_one_that_is_stopped_or_given_up_drops_out_alone(classes, error):
    settings = [replace(one, epochs=3) for one in settings_of(4)]
    known = [alone(network, classes, settings[seed], seed) for seed, network in enumerate(networks(classes, 4))]
    logs = [Log(stop_at=1 if place == 1 else None, error=error if place == 1 else None) for place in range(4)]
    members = [
        Member(network=network, settings=settings[seed], seed=seed, report=logs[seed])
        for seed, network in enumerate(networks(classes, 4))
    ]
    ended = list(train_together(members, classes))
    place, result = ended[0]
    assert place == 1, "it ends before the others"
    if error is None:
        assert isinstance(result, TrainingResult)
        assert (result.epochs, result.stopped) == (1, True)
    else:
        assert result is error
    for place, result in ended[1:]:
        assert_same(logs[place], known[place][0], result, known[place][1])


def test_members_with_different_ends_stop_where_they_end(classes):
    settings = [replace(one, epochs=4) for one in settings_of(3)]
    until = [1, None, 2]
    known = [
        alone(network, classes, settings[seed], seed, until=until[seed])
        for seed, network in enumerate(networks(classes, 3))
    ]
    logs, results = together(networks(classes, 3), classes, settings, until=until)
    assert [results[place].epochs for place in range(3)] == [1, 4, 2]
    for place in range(3):
        assert_same(logs[place], known[place][0], results[place], known[place][1])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_who_trained_together_may_go_on_alone_and_the_other_way_round(classes, tmp_path, optimizer):
    space = SPACE if optimizer == "sgd" else WITHOUT_BATCH_NORM
    settings = [replace(one, epochs=3) for one in settings_of(3, optimizer=optimizer)]
    whole = [alone(network, classes, settings[seed], seed) for seed, network in enumerate(networks(classes, 3, space))]
    keepers = [Kept(tmp_path / f"{seed}.safetensors", due=seed == 2) for seed in range(3)]
    _, halves = together(networks(classes, 3, space), classes, settings, until=[2, 2, 2], keeper=keepers)
    assert [keeper.epochs for keeper in keepers] == [[2], [2], [1, 2]]
    assert all(result.epochs == 2 for result in halves.values())
    log, result = alone(networks(classes, 3, space)[0], classes, settings[0], 0, start=keepers[0].path)
    assert_same(log, whole[0][0][2:], result, whole[0][1])
    for seed, network in enumerate(networks(classes, 3, space)):  # kept alone this time
        alone(network, classes, settings[seed], seed, until=1, keeper=Kept(keepers[seed].path))
    logs, results = together(networks(classes, 3, space), classes, settings, start=[keeper.path for keeper in keepers])
    for place in range(3):
        assert_same(logs[place], whole[place][0][1:], results[place], whole[place][1])


def test_a_checkpoint_at_the_end_is_kept_if_asked_for_and_a_reached_budget_trains_no_more(classes, tmp_path):
    settings = settings_of(2)
    keepers = [Kept(tmp_path / f"{seed}.safetensors") for seed in range(2)]
    _, results = together(networks(classes, 2), classes, settings, keeper=keepers, keep_end=[True, False])
    assert [keeper.epochs for keeper in keepers] == [[2], []]
    again, reached = together(
        networks(classes, 2), classes, settings, start=[keepers[0].path, None], keeper=[None, None]
    )
    assert not again[0]
    assert reached[0].scores == pytest.approx(results[0].scores)
    assert reached[0].epochs == 2


def test_who_may_be_trained_together(classes):
    network, other = networks(classes, 2)

    def of(settings, built=network, device="cpu"):
        return company(built, settings, classes, device)

    assert of(SETTINGS) is not None
    assert of(SETTINGS) == of(replace(SETTINGS, learning_rate=1.0, schedule="cosine", epochs=9), other)
    for name, value in (("batch_size", 8), ("optimizer", "sgd"), ("precision", "bfloat16"), ("threads", 2)):
        assert of(replace(SETTINGS, **{name: value})) not in (of(SETTINGS), None), name
    for name, value in (("prune", 0.5), ("base_depth", 3), ("mixup", 0.1), ("memory_bytes", 10**9)):
        assert of(replace(SETTINGS, **{name: value})) is None, name
    cells = nas_bench_201(channels=2, cells=1, stages=1)
    image = build(cells, sample(cells, np.random.default_rng(0)), (3, 8, 8), 2)
    assert of(SETTINGS, image) is None
    assert of(SETTINGS, nn.Sequential(nn.Flatten(), nn.Linear(5, 2))) is None


def test_on_a_gpu_those_with_dropout_are_trained_alone(classes):
    for dropout, found in ((0.0, True), (0.5, False)):
        space = mlp(layers=1, widths=(4,), dropout=dropout, training=False)
        (network,) = networks(classes, 1, space)
        assert perceptron(network).has_dropout == (dropout > 0)
        assert (company(network, SETTINGS, classes, "cuda") is not None) == found


def test_through_the_operator_that_a_gpu_has_a_kernel_for_the_training_is_the_same(classes, monkeypatch):
    settings, used = settings_of(6), []
    logs, results = together(networks(classes, 6), classes, settings)

    def operator(x, weight, bias, grouping):
        used.append(grouping)
        return torch.ops.nas.batched_mlp(x, weight, bias, grouping.table(x.device), grouping.rows, *grouping.widest)

    monkeypatch.setattr("workers.training.grouped_network.grouped_linear", operator)
    others, known = together(networks(classes, 6), classes, settings)
    assert used
    for place in range(6):
        assert_same(logs[place], others[place], results[place], known[place])


@pytest.mark.cuda
def test_on_a_gpu_too_candidates_become_what_each_becomes_alone(classes):
    pytest.importorskip("cuda.core", reason="needs cuda-core: pip install '.[cuda]'")
    space = mlp(**KINDS, normalizations=("none", "layer"), dropout=0.0)
    settings = [replace(one, epochs=4) for one in settings_of(8)]
    # orders are drawn on the device: there they are others
    known = [
        alone(network, classes, settings[seed], seed, device="cuda")
        for seed, network in enumerate(networks(classes, 8, space))
    ]
    logs = [Log() for _ in range(8)]
    members = [
        Member(network=network, settings=settings[seed], seed=seed, report=logs[seed])
        for seed, network in enumerate(networks(classes, 8, space))
    ]
    for place, result in train_together(members, classes, device="cuda"):
        assert_same(logs[place], known[place][0], result, known[place][1], rtol=1e-3)


def test_deep_ones_before_shallow_ones_are_refused(classes):
    found = sorted(map(perceptron, networks(classes, 6)), key=lambda one: -len(one.layers))
    with pytest.raises(ValueError, match="shallow ones first"):
        GroupedNetwork(found)
    outputs = GroupedNetwork(found[::-1])(torch.zeros(6, 3, 5), [torch.Generator()] * 6)
    assert outputs.shape == (6, 2, 3)
