"""zen: how far a network of Gaussian weights moves its features when the input moves a little."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from predictors.zero_cost.batch import Batch, Loss
from predictors.zero_cost.private_copy import proxy
from predictors.zero_cost.seeded import seeded
from predictors.zero_cost.weights import BATCH_NORMALIZATIONS, draw_weights, own_weights, weights

STEP = 0.01
"""The paper's alpha."""

POOLINGS = (nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd)


@proxy
def zen(network: nn.Module, batch: Batch, loss: Loss) -> float:
    """The log of the mean |f(x) - f(x + 0.01 e)|, plus log s of every batch normalisation. Larger is better.

    Weights, x and e are standard normal, drawn from the batch's seed; f are the features that go into the last adaptive
    pooling (or, without one, into the last layer with weights), their differences summed over each example; s is the
    square root of the mean over channels of the variance that goes into a batch normalisation.

    Batch normalisation: batch statistics, whose scale the second term gives back. A network without any has the first
    term alone; one whose input does not vary (behind an operation that gives zeros) is left out. Takes 2 F; of the
    batch only shape and seed are looked at, of the loss nothing. Features that do not move give minus infinity.

    Source: Lin et al., Zen-NAS, arXiv:2102.01063, algorithm 1.
    Differs: residual connections stay, as there is no telling them from others in any network; the difference is
    summed absolutely, as in the published code.
    """
    distance, variances = moved_and_variances(network, batch)
    if distance == 0:
        return -math.inf
    return math.log(distance) + sum(math.log(variance) for variance in variances if variance != 0) / 2


def moved_and_variances(network: nn.Module, batch: Batch) -> tuple[float, list[float]]:
    """How far the features move, and the mean variance that goes into each batch normalisation; see `zen`."""
    weights(network)  # says what is missing
    generator = batch.generator()
    draw_weights(network, lambda empty: empty.normal_(generator=generator))
    first = torch.randn(batch.inputs.shape, generator=generator)
    second = first + STEP * torch.randn(batch.inputs.shape, generator=generator)
    features: dict[str, Tensor] = {}
    variances: list[float] = []

    def look(module: nn.Module, given: Any) -> None:
        if isinstance(module, BATCH_NORMALIZATIONS):
            variances.append(float(given[0].transpose(0, 1).flatten(1).var(1, correction=0).double().mean()))
        else:
            features["pooled" if isinstance(module, POOLINGS) else "weighted"] = given[0].double()

    for module in network.modules():
        if isinstance(module, (*BATCH_NORMALIZATIONS, *POOLINGS)) or own_weights(module):
            module.register_forward_pre_hook(look)
    last = []
    for inputs in (second, first):
        features.clear()
        variances.clear()
        with torch.no_grad(), seeded(batch.seed, batch.device):  # what the network draws is the same in both
            network(inputs.to(batch.inputs))
        last.append(features["pooled"] if "pooled" in features else features["weighted"])
    return float((last[1] - last[0]).abs().flatten(1).sum(1).mean()), variances
