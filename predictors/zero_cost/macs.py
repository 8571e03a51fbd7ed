"""macs: multiply-accumulates of one forward pass."""

from __future__ import annotations

from torch import nn

from predictors.zero_cost.batch import Batch, Loss
from predictors.zero_cost.private_copy import proxy
from predictors.zero_cost.weights import skip_normalization
from search_spaces.cost import cost


@proxy
def macs(network: nn.Module, batch: Batch, loss: Loss) -> float:
    """Multiply-accumulates of one forward pass of one example, see `search_spaces.cost.Cost`. Larger is better.

    AZ-NAS calls this complexity. Batch normalisation: not counted. Takes 1 F of one example; of the batch only the
    shape of an input is looked at.

    Source: Lee, Ham, AZ-NAS, arXiv:2403.19232, section 3.4.
    """
    skip_normalization(network)  # it is not counted, and may need more than the one example
    return float(cost(network, batch.inputs.shape[1:]).macs)
