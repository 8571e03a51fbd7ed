"""Small networks of every kind that proxies meet."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from predictors.zero_cost.batch import Batch
from search_spaces.build import build
from search_spaces.catalogue.mlp import mlp
from search_spaces.catalogue.mobile_cnn import mobile_cnn
from search_spaces.catalogue.nas_bench_201 import from_ids, nas_bench_201
from search_spaces.catalogue.residual_cnn import residual_cnn
from search_spaces.moves import sample

IMAGE, ROW, STEPS = (3, 8, 8), (6,), (5, 4)
OUTPUTS = 4


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.below = nn.GRU(STEPS[1], 6, batch_first=True)
        self.above = nn.LSTM(6, 7, batch_first=True)
        self.head = nn.Linear(7, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.above(self.below(x)[0])
        logits: Tensor = self.head(functional.relu(states[:, -1]))
        return logits


def attentive() -> nn.Module:
    layer = nn.TransformerEncoderLayer(STEPS[1], 2, dim_feedforward=8, batch_first=True)
    return nn.Sequential(nn.Linear(STEPS[1], STEPS[1]), layer, nn.Flatten(), nn.Linear(STEPS[0] * STEPS[1], OUTPUTS))


class Functional(nn.Module):
    """Rectifies by functions, in place, and uses one convolution twice."""

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Conv2d(3, 5, 3, padding=1)
        self.again = nn.Conv2d(5, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(5, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu_(self.widen(x))
        y = functional.relu_(self.norm(self.again(y)))
        y = functional.relu_(self.again(y))
        logits: Tensor = self.head(self.drop(y.mean((2, 3))))
        return logits


def cell(*ids: int) -> nn.Module:
    return build(nas_bench_201(channels=4, cells=1, stages=2), from_ids(ids), IMAGE, OUTPUTS)


def drawn_cnn() -> nn.Module:
    space = residual_cnn(stages=2, blocks=2, widths=(4, 8))
    return build(space, sample(space, np.random.default_rng(3)), IMAGE, OUTPUTS)


def drawn_mobile_cnn() -> nn.Module:
    space = mobile_cnn(stages=1, blocks=2, widths=(4,), expansions=(2,), kernels=(3,), features=8)
    return build(space, sample(space, np.random.default_rng(3)), IMAGE, OUTPUTS)


def drawn_mlp(normalization: str = "batch") -> nn.Module:
    space = mlp(layers=3, widths=(8, 16), activations=("relu", "gelu"), normalizations=(normalization,), training=False)
    rng = np.random.default_rng(1)
    drawn = (sample(space, rng) for _ in range(100))
    architecture = next(one for one in drawn if one["network/layers/count"] == 3)
    return build(space, architecture, ROW, OUTPUTS)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "cell": (lambda: cell(3, 1, 2, 4, 0, 3), IMAGE),
    "residual_cnn": (drawn_cnn, IMAGE),
    "mobile_cnn": (drawn_mobile_cnn, IMAGE),
    "mlp": (drawn_mlp, ROW),
    "recurrent": (Recurrent, STEPS),
    "attentive": (attentive, STEPS),
    "functional": (Functional, IMAGE),
}


def make(name: str, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return NETWORKS[name][0]()


def batch_for(name: str, examples: int = 6, seed: int = 0) -> Batch:
    return batch_of(NETWORKS[name][1], examples, seed)


def batch_of(shape: tuple[int, ...], examples: int = 6, seed: int = 0, outputs: int = OUTPUTS) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        inputs=torch.randn(examples, *shape, generator=generator),
        targets=torch.arange(examples) % outputs,
        seed=seed,
    )
