"""input_jacobian: how the outputs of each example change with its input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from predictors.zero_cost.batch import Batch
from predictors.zero_cost.error import ProxyError

SMALL = 1e-5
"""Added to eigenvalues and correlations before their logarithm is taken, in the papers' own code."""


def input_jacobian(network: nn.Module, batch: Batch) -> tuple[Tensor, int]:
    """The gradient of the sum of all outputs with respect to each input, b x inputs and float64; how many outputs.

    Through batch statistics an example's outputs depend on other examples too; as in the papers' code, that is summed.
    """
    inputs = batch.inputs.detach().requires_grad_()
    outputs = network(inputs.clone())  # what it writes there does not reach the leaf
    if not torch.isfinite(outputs).all():
        raise ProxyError("the outputs are NaN or infinite")
    found = torch.zeros_like(inputs)
    if outputs.requires_grad:
        (gradient,) = torch.autograd.grad(outputs.sum(), inputs, allow_unused=True)
        found = found if gradient is None else gradient
    return found.flatten(1).double(), outputs.shape[-1]


def correlation(rows: Tensor) -> Tensor:
    """Correlations of rows, n x n; a row that does not vary correlates with nothing, not even with itself."""
    centred = rows - rows.mean(1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    # what rounding leaves of a constant row is no variation
    varies = length > 1e-12 * rows.norm(dim=1, keepdim=True)
    unit = torch.where(varies, centred / torch.where(varies, length, 1.0), 0.0)
    return unit @ unit.T
