"""gaussian_start: the weights and the inputs that AZ-NAS scores networks with."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from predictors.zero_cost.batch import Batch
from predictors.zero_cost.weights import draw_weights


def gaussian_start(network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
    """Draw the network's weights anew, and return standard normal inputs in the shape of the batch's.

    Weights are normal with variance 2 / (inputs of a unit), biases 0, scales of normalisations 1 and their shifts 0;
    other parameters stay as they are, see `draw_weights`.

    Source: He et al., Delving Deep into Rectifiers, arXiv:1502.01852, equation 10; the published code of AZ-NAS.
    """

    def draw(empty: Tensor) -> Tensor:
        fan_in = math.prod(empty.shape[1:])
        return empty.normal_(0.0, math.sqrt(2.0 / fan_in), generator=generator)

    draw_weights(network, draw)
    return torch.randn(batch.inputs.shape, generator=generator).to(batch.inputs)
