"""expressivity: how evenly a network's features use the room they have."""

from __future__ import annotations

import torch
from torch import nn

from predictors.zero_cost.batch import Batch, Loss
from predictors.zero_cost.blocks import Features, block_outputs
from predictors.zero_cost.error import ProxyError
from predictors.zero_cost.gaussian_start import gaussian_start
from predictors.zero_cost.private_copy import proxy

SMALL = 1e-8


@proxy
def expressivity(network: nn.Module, batch: Batch, loss: Loss) -> float:
    """The sum over blocks of the entropy of the features' principal components. Larger is better.

    For a block, - sum p log(p + 1e-8), p the eigenvalues of the covariance of its channels over all positions, divided
    by their sum. See `block_outputs` for what a block is. Features that do not vary have an entropy of 0.

    Weights and inputs are drawn from the batch's seed, see `gaussian_start`; of the batch only shape and seed are
    looked at, of the loss nothing. Batch normalisation: batch statistics. Takes 1 F.

    Source: Lee, Ham, AZ-NAS, arXiv:2403.19232, equations 1 to 3.
    """
    return sum(entropies(network, batch))


def entropies(network: nn.Module, batch: Batch, least: int = 1) -> list[float]:
    """The entropy of each block, under weights and inputs drawn anew; `least` is that of `block_outputs`."""
    inputs = gaussian_start(network, batch, batch.generator())
    with torch.no_grad():
        return [_entropy(features) for features in block_outputs(network, inputs, least)]


def _entropy(features: Features) -> float:
    rows = features.by_position().double()
    if not torch.isfinite(rows).all():
        raise ProxyError("the features are NaN or infinite")
    centred = rows - rows.mean(0)
    # of two matrices with the same eigenvalues beside zeros, the smaller
    product = centred.T @ centred if centred.shape[1] <= centred.shape[0] else centred @ centred.T
    values = torch.linalg.eigvalsh(product).clamp(min=0)
    total = values.sum()
    if total == 0:
        return 0.0
    shares = values / total
    return -float((shares * (shares + SMALL).log()).sum())
