import math

import pytest
import torch
from torch import nn

from workers.datasets.dataset import Examples
from workers.datasets.prepare import SplitSettings, prepare
from workers.training.finite import LOOK_EVERY, FiniteWatch, NanLoss
from workers.training.loop import train
from workers.training.settings import TrainingSettings


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
def test_a_lost_sum_is_seen_at_the_next_look(lost):
    total = torch.zeros(())
    watch = FiniteWatch(total)
    watch.look(0, LOOK_EVERY)
    total += lost
    for step in range(LOOK_EVERY + 1, 2 * LOOK_EVERY):
        watch.look(0, step)
    with pytest.raises(NanLoss, match=rf"within {2 * LOOK_EVERY} steps of epoch 1"):
        watch.look(0, 2 * LOOK_EVERY)


def test_an_epoch_is_left_early():
    x = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)).numpy()
    data = prepare(Examples(inputs=x, targets=x[:, 0]), SplitSettings(), name="line")
    network, calls = nn.Linear(3, 1), []
    nn.init.constant_(network.weight, math.nan)
    network.register_forward_hook(lambda *given: calls.append(1) if network.training else None)
    with pytest.raises(NanLoss, match="of epoch 1"):
        train(network, data, TrainingSettings(batch_size=4), seed=0)
    assert len(calls) == LOOK_EVERY


@pytest.mark.cuda
def test_on_a_gpu_it_is_seen_a_look_later():
    total = torch.zeros((), device="cuda")
    watch = FiniteWatch(total)
    total += math.nan
    watch.look(0, LOOK_EVERY)
    torch.cuda.synchronize()
    with pytest.raises(NanLoss):
        watch.look(0, 2 * LOOK_EVERY)
