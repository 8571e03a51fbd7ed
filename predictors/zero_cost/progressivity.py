"""progressivity: whether each block of a network adds to what the features can express."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from predictors.zero_cost.batch import Batch, Loss
from predictors.zero_cost.error import ProxyError
from predictors.zero_cost.expressivity import entropies
from predictors.zero_cost.private_copy import proxy


@proxy
def progressivity(network: nn.Module, batch: Batch, loss: Loss) -> float:
    """The smallest step of the features' entropy (see `expressivity`) from one block to the next. Larger is better.

    Weights and inputs are drawn from the batch's seed. Batch normalisation: batch statistics. Takes 1 F. A network of
    fewer than two blocks is a `ProxyError`.

    Source: Lee, Ham, AZ-NAS, arXiv:2403.19232, equation 4.
    """
    found = entropies(network, batch, least=2)
    if len(found) < 2:
        raise ProxyError("the network has a single block, and steps are between blocks")
    return min(after - before for before, after in pairwise(found))
