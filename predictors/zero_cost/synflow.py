"""synflow: how much can flow through a network's weights, whatever the data."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from predictors.zero_cost.batch import Batch, Loss
from predictors.zero_cost.error import ProxyError
from predictors.zero_cost.gradients import gradients
from predictors.zero_cost.private_copy import proxy
from predictors.zero_cost.weights import biases, skip_normalization, weights

DOWN = -900
"""Power of two by which flow that overflows float64 is scaled on its way forward, and again on its way back."""


@proxy
def synflow(network: nn.Module, batch: Batch, loss: Loss) -> float:
    """The logarithm of sum |w| dR/d|w|, R the sum of the outputs for an input of ones through absolute weights.

    Larger is better. Batch normalisation, and every other one, is passed over: what goes in comes out. Dropout is off.
    Takes 1 F + 1 B of one example in float64; of the batch only the shape of an input is looked at, of the loss
    nothing. Flow beyond the range of float64 is computed scaled down, which is exact where the activations are
    homogeneous (ReLUs, pooling): up to about e^1300. A network that nothing flows through gives minus infinity.

    Source: Tanaka, Kunin, Yamins, Ganguli, Pruning neural networks without any data by iteratively conserving synaptic
    flow, arXiv:2006.05467, equation 2; summed over a network as by Abdelfattah et al., arXiv:2101.08134, section 3.2.
    Differs: the logarithm, which leaves the ranking as it is.
    """
    private = network.eval().double()
    found = weights(private)
    skip_normalization(private)
    with torch.no_grad():
        for parameter in private.parameters():
            parameter.abs_()
    example = torch.ones_like(batch.inputs[:1], dtype=torch.float64)
    total = _flow(private, found, example)
    if math.isfinite(total):
        return math.log(total) if total > 0 else -math.inf
    if not all(torch.isfinite(weight).all() for weight in found):
        raise ProxyError("the weights are NaN or infinite")
    with torch.no_grad():  # the input and every bias smaller: all that flows is smaller by the same factor
        for bias in biases(private):
            bias.mul_(2.0**DOWN)
    total = _flow(private, found, example * 2.0**DOWN, back=2.0**DOWN)
    return math.log(total) - 2 * DOWN * math.log(2.0) if 0 < total < math.inf else math.nan


def _flow(network: nn.Module, found: list[Tensor], example: Tensor, *, back: float = 1.0) -> float:
    output = network(example).sum()
    flows = gradients(output * back, found)
    return sum(float((weight.detach() * flow).sum()) for weight, flow in zip(found, flows, strict=True))
