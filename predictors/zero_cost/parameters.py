"""parameters: how many parameters a network has."""

from __future__ import annotations

from torch import nn

from predictors.zero_cost.batch import Batch, Loss
from predictors.zero_cost.private_copy import proxy


@proxy
def parameters(network: nn.Module, batch: Batch, loss: Loss) -> float:
    """How many numbers its parameters hold, those of a tensor used twice once. Larger is better. Takes no pass.

    Frozen ones count too: every proxy scores a network as if all of it were trained. Batch normalisation: its scales
    and shifts count, its statistics do not.
    """
    return float(sum(parameter.numel() for parameter in network.parameters()))
