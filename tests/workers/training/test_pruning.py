import math

import pytest
import torch
from torch import nn

from workers.datasets.load import load_dataset
from workers.training.epochs import EpochPlan
from workers.training.loop import train
from workers.training.pruning import FULL_FROM, pruned
from workers.training.scores import resident
from workers.training.seeding import seeded, threads
from workers.training.settings import TrainingSettings


def test_the_gradient_is_right_in_the_mean():
    """Over many draws, the weighted losses of those that are kept add up to those of all."""
    scores = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    generator, draws = torch.Generator().manual_seed(1), 2000
    total = torch.zeros(50, dtype=torch.float64)
    for _ in range(draws):
        out, weights = pruned(scores, 0.6, generator)
        total += torch.where(out, 0.0, weights.double())
        assert not out[scores >= scores.mean()].any()
    assert torch.allclose(total / draws, torch.ones(50, dtype=torch.float64), atol=0.12)


def test_who_was_never_seen_is_kept():
    scores = torch.tensor([0.0, math.nan, 10.0, math.nan, 0.1])
    for seed in range(20):
        out, weights = pruned(scores, 0.9, torch.Generator().manual_seed(seed))
        assert not out[1:4].any()
        assert weights[1:4].tolist() == [1, 1, 1]
    out, weights = pruned(torch.full((4,), math.nan), 0.9, torch.Generator().manual_seed(0))
    assert not out.any()
    assert (weights == 1).all()


def plan(ratio=0.5, epochs=8, batch_size=100):
    digits = load_dataset("digits")
    settings = TrainingSettings(prune=ratio, epochs=epochs, batch_size=batch_size)
    return EpochPlan(settings, resident(digits.train, digits, torch.device("cpu")), seed=3), len(digits.train)


def test_an_epoch_leaves_out_its_share_and_the_last_ones_leave_out_nothing():
    made, count = plan()
    full = made.begin(0)
    assert full == count // 100, "nothing is known before the first epoch"
    made.scores.latest.copy_(torch.arange(count))
    shorter = made.begin(1)
    assert shorter == pytest.approx(0.75 * full, abs=1)
    seen = [made.draw() for _ in range(shorter)]
    order = torch.cat([draw.order for draw in seen])
    assert len(order.unique()) == len(order)
    weights = torch.cat([draw.weights for draw in seen])
    assert set(weights.tolist()) == {1.0, 2.0}
    assert torch.equal(weights == 2, order < (count - 1) / 2)
    assert made.begin(math.ceil(FULL_FROM * 8)) == full
    assert (made.draw().weights == 1).all()


def test_a_batch_is_full_even_if_nearly_all_is_left_out():
    made, count = plan(ratio=0.99, batch_size=1000)
    made.scores.latest.copy_(torch.cat([torch.zeros(count - 1), torch.tensor([1e9])]))
    assert made.begin(1) == 1
    assert len(made.draw().order.unique()) == 1000


def test_a_shorter_epoch_passes_through_its_part_of_the_schedule():
    made, count = plan()
    full = made.begin(1)
    whole = [float(made.draw().rates) for _ in range(full)]
    made.scores.latest.copy_(torch.arange(count))
    shorter = made.begin(1)
    rates = [float(made.draw().rates) for _ in range(shorter)]
    assert rates[0] == whole[0]
    assert rates == sorted(rates)
    assert whole[-2] < rates[-1] < whole[-1] * 1.01


def test_pruning_learns_as_well_with_fewer_steps():
    digits = load_dataset("digits")
    scores, steps = [], []
    for prune in (0.0, 0.5):
        with seeded(0), threads(1):
            network, calls = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), []
            network.register_forward_hook(lambda module, *_, calls=calls: calls.append(1) if module.training else None)
            result = train(network, digits, TrainingSettings(epochs=12, prune=prune), seed=0)
        scores.append(result.scores["accuracy"])
        steps.append(len(calls))
    assert steps[1] < 0.8 * steps[0]
    assert scores[1] > scores[0] - 0.02


def test_blended_examples_have_no_loss_of_their_own():
    with pytest.raises(ValueError, match=r"prune goes by each example's own loss.*mixup=0.2"):
        TrainingSettings(prune=0.5, mixup=0.2)
