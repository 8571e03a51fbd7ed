"""zico: whether gradients are large and agree with each other, layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from predictors.zero_cost.batch import Batch, Loss
from predictors.zero_cost.error import ProxyError
from predictors.zero_cost.gradients import weight_gradients
from predictors.zero_cost.private_copy import proxy
from predictors.zero_cost.seeded import seeded

PARTS = 2
"""Parts of the batch whose gradients are compared; the paper's code takes two batches."""


@proxy
def zico(network: nn.Module, batch: Batch, loss: Loss) -> float:
    """Sum over weight tensors of log sum (mean |g| / standard deviation of |g|). Larger is better.

    Mean and (population) deviation of a weight's gradient are over the two halves of the batch; with an odd number the
    last example is left out. Weights whose gradient does not deviate are left out, and so are tensors without others.

    Batch normalisation: statistics of each half. Takes 1 F + 1 B in all. Fewer than two examples are a `ProxyError`; if
    no gradient deviates (equal halves, say), nothing can be compared and the score is minus infinity.

    Source: Li, Yang, Bhardwaj, Marculescu, ZiCo, arXiv:2301.11300, equation 15.
    Differs: the published code does not clear the gradient between its batches, and takes the deviation of g itself.
    """
    size = len(batch) // PARTS
    if not size:
        raise ProxyError(f"the batch must have at least {PARTS} examples, got {len(batch)}")
    each: list[list[Tensor]] = []
    for at in range(PARTS):
        part = batch.part(at * size, (at + 1) * size)
        with seeded(batch.seed, batch.device):  # what the network draws is the same in all
            each.append([g.abs() for _, g in weight_gradients(network, part, loss)])
    terms = [term for of_one in zip(*each, strict=True) if (term := _term(torch.stack(of_one))) is not None]
    return float(sum(terms)) if terms else -torch.inf


def _term(sizes: Tensor) -> float | None:
    """The term of one weight tensor; `sizes` has its |g| of each part, parts x shape."""
    deviation, mean = torch.std_mean(sizes.double(), dim=0, correction=0)
    if not torch.isfinite(mean).all():
        return torch.nan
    deviates = deviation > 0
    return float((mean[deviates] / deviation[deviates]).sum().log()) if deviates.any() else None
