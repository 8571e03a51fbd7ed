import math

import pytest
import torch
from torch import nn

from search_spaces.build import build
from search_spaces.catalogue.nas_bench_201 import from_string, nas_bench_201
from workers.datasets.load import load_dataset
from workers.training.loop import train
from workers.training.scaling import scaled, structure
from workers.training.settings import TrainingSettings


def chain(depth, width=8):
    layers = [layer for _ in range(depth - 1) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(width, 2))


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_a_chain_gets_what_equation_8_gives_it(depth):
    settings = TrainingSettings(base_depth=3, learning_rate=0.1)
    assert structure(chain(depth), (8,)).cubed_depth == depth**3
    rate = scaled(chain(depth), (8,), settings, seed=0).learning_rate
    assert rate == pytest.approx(0.1 * (depth / 3) ** -1.5)


@pytest.mark.parametrize(("kernel", "factor"), [(1, 3.0), (3, 1.0), (5, 0.6)])
def test_larger_kernels_get_a_smaller_rate_by_equation_9(kernel, factor):
    network = nn.Sequential(nn.Conv2d(1, 4, kernel), nn.ReLU(), nn.Conv2d(4, 4, kernel), nn.Flatten())
    settings = TrainingSettings(base_depth=2, learning_rate=0.1)
    assert scaled(network, (1, 12, 12), settings, seed=0).learning_rate == pytest.approx(0.1 * factor)


class Branches(nn.Module):
    """x + a(x) + b(relu(a(x))) through c: paths of 1, 2 and 3 layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 4)

    def forward(self, x):
        return self.c(x + self.a(x) + self.b(self.a(x).relu()))


def test_paths_are_counted_by_their_share_of_a_sum():
    found = structure(Branches(), (8,))
    assert found.cubed_depth == pytest.approx((1**3 + 2**3 + 3**3) / 3)


def test_weights_before_a_sum_are_drawn_smaller_by_its_summands():
    network = Branches()
    found = structure(network, (8,))
    layers = (network.a, network.b, network.c)
    assert [found.summands[layer.weight] for layer in layers] == [3, 3, 1]
    wide = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 300))
    scaled(wide, (300,), TrainingSettings(base_depth=2), seed=0)
    for layer in (wide[0], wide[2]):
        assert float(layer.weight.detach().var()) == pytest.approx(2 / 300, rel=0.03)
        assert not layer.bias.any()


def test_the_signal_keeps_its_size_through_sums():
    """What equation 4 is for: values neither grow nor shrink with the number of blocks."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(256, 256, bias=False), nn.Linear(256, 256, bias=False)

        def forward(self, x):
            return self.left(x.relu()) + self.right(x.relu())

    network = nn.Sequential(*(Block() for _ in range(12)))
    scaled(network, (256,), TrainingSettings(base_depth=2), seed=1)
    x = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert float(network(x).square().mean()) == pytest.approx(1.0, rel=0.5)


def test_cells_of_skips_are_shallower_than_cells_of_convolutions():
    space = nas_bench_201(channels=4, cells=1)
    deep, shallow = (
        structure(build(space, from_string(text), (1, 8, 8), 10), (1, 8, 8)).cubed_depth
        for text in (
            "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_3x3~2|",
            "|skip_connect~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|none~2|",
        )
    )
    assert deep > 3 * shallow


def test_a_network_that_ignores_its_input_is_left_as_it_is():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.value = nn.Parameter(torch.zeros(2))

        def forward(self, x):
            return self.value.expand(len(x), 2)

    settings = TrainingSettings(base_depth=3)
    assert scaled(Constant(), (4,), settings, seed=0) == settings


def test_a_training_says_which_rate_it_used_and_other_seeds_draw_other_weights():
    digits = load_dataset("digits")
    settings = TrainingSettings(epochs=3, base_depth=2, learning_rate=0.01)
    losses = []
    for seed in (0, 0, 1):
        network = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10)
        )
        result = train(network, digits, settings, seed=seed)
        assert result.notes["learning_rate"] == pytest.approx(0.01 * math.sqrt(8 / 27))
        losses.append(result.scores["loss"])
    assert losses[0] == losses[1] != losses[2]
