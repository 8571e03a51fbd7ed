"""InfoBatch: epochs that leave out some of the examples that are learnt well already, without a bias.

Source: Qin et al., InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning, ICLR 2024, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FULL_FROM = 0.875
"""From this share of the epochs on, all examples are used again (delta in section 3.3)."""


def pruned(scores: Tensor, ratio: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which examples an epoch leaves out, and what the others weigh.

    An example whose last loss is below the mean is left out with probability `ratio` (equation 1); if it is kept its
    loss, hence its gradient, counts 1 / (1 - ratio) times (section 3.2), so that the expected gradient is that of all.

    Args:
        scores: n, the last loss of each example; NaN for one that has not been seen yet, which is kept.
        ratio: in [0, 1).
        generator: on the device of `scores`.

    Returns:
        A mask of those left out and the weights of all, both n.
    """
    learnt = scores < scores.nanmean()
    out = learnt & (torch.rand(len(scores), generator=generator, device=scores.device) < ratio)
    return out, torch.where(learnt, 1 / (1 - ratio), 1.0)


class Scores:
    """The last loss of each example, in tensors that stay where they are.

    An epoch is drawn from the losses that were known at its beginning (`before`), also if it goes on from a checkpoint
    within it.

    Args:
        examples: how many.
        device: where the data is.
    """

    def __init__(self, examples: int, device: torch.device) -> None:
        self.before = torch.full((examples,), torch.nan, device=device)
        self.latest = self.before.clone()

    def begin(self) -> None:
        """What is known now is what the next epoch is drawn from."""
        self.before.copy_(self.latest)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"before": self.before, "latest": self.latest}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave; a checkpoint without it (made without pruning) leaves all unseen."""
        for name, tensor in self.state().items():
            if name in state:
                tensor.copy_(state[name])
