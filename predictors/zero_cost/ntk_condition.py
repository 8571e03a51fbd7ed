"""ntk_condition: how evenly gradient descent learns the examples at the start."""

from __future__ import annotations

import math

import torch
from torch import nn

from predictors.zero_cost.batch import Batch, Loss
from predictors.zero_cost.error import ProxyError
from predictors.zero_cost.gradients import EXAMPLES, gradients_of_each
from predictors.zero_cost.private_copy import proxy
from predictors.zero_cost.weights import weights

COLUMNS = 2**20
"""Weights whose gradients are in double precision at once; those of all, for 32 examples, are 256 bytes a weight."""


@proxy
def ntk_condition(network: nn.Module, batch: Batch, loss: Loss) -> float:
    """- log of the condition number of the neural tangent kernel: log smallest - log largest eigenvalue; at most 0.

    The kernel is J J^T, row i of J the gradient of example i's outputs, summed, with respect to all weights. Takes the
    first 32 examples at most: 1 F + 32 B of them, whose gradients (128 bytes a weight) are kept. Targets and loss are
    not looked at. Larger is better.

    Batch normalisation: batch statistics. A singular kernel (equal images, say) gives minus infinity, one example 0.

    Source: Chen, Gong, Wang, TE-NAS, arXiv:2102.11535, equation 5 and the published code.
    Differs: the logarithm, which leaves the ranking as it is.
    """
    few = batch.part(0, EXAMPLES)
    outputs = network(few.inputs)
    if not torch.isfinite(outputs).all():
        raise ProxyError("the outputs are NaN or infinite")
    rows = list(gradients_of_each(outputs.flatten(1).sum(1).unbind(), weights(network)))
    kernel = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=few.device)
    for parts in zip(*(torch.split(row, COLUMNS) for row in rows), strict=True):
        part = torch.stack(parts).double()
        kernel += part @ part.T
    # gradients in float32 leave the kernel no eigenvalue below its rounding
    values = torch.linalg.eigvalsh(kernel)
    smallest, largest = float(values[0]), float(values[-1])
    if smallest <= largest * len(values) * torch.finfo(rows[0].dtype).eps ** 2:
        return -math.inf
    return math.log(smallest) - math.log(largest)
