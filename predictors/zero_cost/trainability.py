"""trainability: whether gradients keep their size on their way back through the blocks."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from predictors.zero_cost.batch import Batch, Loss
from predictors.zero_cost.blocks import Features, block_outputs
from predictors.zero_cost.error import ProxyError
from predictors.zero_cost.gaussian_start import gaussian_start
from predictors.zero_cost.private_copy import proxy

SMALL = 1e-6


@proxy
def trainability(network: nn.Module, batch: Batch, loss: Loss) -> float:
    """The mean over blocks of 2 - s - 1 / (s + 1e-6), at most about 0, where s is 1. Larger is better.

    s approximates the largest singular value of a block's Jacobian: that of the covariance between random signs (drawn
    from the batch's seed) at its output and their gradient at its input, positions aligned. A block that strides is
    seen as one whose input channels are the pixels of its windows; where positions cannot be aligned, an example is one
    position. A block that hands gradients on unchanged has nothing to train, which is minus infinity for the network.

    Weights and inputs are drawn from the batch's seed, see `gaussian_start`; of the batch only shape and seed are
    looked at, of the loss nothing. Batch normalisation: batch statistics. Takes 1 F + 1 B in all. A network of fewer
    than two blocks is a `ProxyError`.

    Source: Lee, Ham, AZ-NAS, arXiv:2403.19232, equations 5 to 8 and the published code.
    """
    generator = batch.generator()
    blocks = block_outputs(network, gaussian_start(network, batch, generator), least=2)
    if len(blocks) < 2:
        raise ProxyError("the network has a single block, and gradients are followed between blocks")
    scores = []
    for before, after in pairwise(blocks):
        signs = torch.randint(2, after.values.shape, generator=generator).to(after.values) * 2 - 1
        gradient = _gradient(after.values, before.values, signs)
        if gradient is not None and gradient.shape == signs.shape and torch.equal(gradient, signs):
            return -math.inf
        # a block that its input does not reach lets no gradient through
        size = 0.0 if gradient is None else _size(Features(gradient, before.axis), Features(signs, after.axis))
        scores.append(2 - size - 1 / (size + SMALL))
    return sum(scores) / len(scores)


def _gradient(after: Tensor, before: Tensor, signs: Tensor) -> Tensor | None:
    """The gradient of the signed sum of a block's outputs with respect to its inputs; None where they are cut off."""
    if not (after.requires_grad and before.requires_grad):
        return None
    (found,) = torch.autograd.grad(after, before, signs, retain_graph=True, allow_unused=True)
    return found


def _size(gradient: Features, signs: Features) -> float:
    """The largest singular value of the covariance of two channels, over aligned positions."""
    back, ahead = _aligned(gradient, signs)
    if not torch.isfinite(back).all():
        raise ProxyError("a gradient is NaN or infinite")
    matrix = back.double().T @ ahead.double() / len(ahead)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1])))


def _aligned(gradient: Features, signs: Features) -> tuple[Tensor, Tensor]:
    """Both as positions x channels, with the same positions."""
    inside, outside = gradient.values, signs.values
    if inside.dim() == 4 and outside.dim() == 4 and inside.shape[2:] != outside.shape[2:]:
        stride = [-(-before // after) for before, after in zip(inside.shape[2:], outside.shape[2:], strict=True)]
        short = [
            after * step - before
            for before, after, step in zip(inside.shape[2:], outside.shape[2:], stride, strict=True)
        ]
        if min(short) >= 0:
            padded = functional.pad(inside, (0, short[1], 0, short[0]))
            examples, channels = inside.shape[:2]
            windows = padded.reshape(examples, channels, outside.shape[2], stride[0], outside.shape[3], stride[1])
            # examples x rows x columns, channels x pixels of a window
            moved = windows.permute(0, 2, 4, 1, 3, 5).flatten(3)
            return moved.reshape(-1, moved.shape[-1]), signs.by_position()
    back, ahead = gradient.by_position(), signs.by_position()
    return (back, ahead) if len(back) == len(ahead) else (inside.flatten(1), outside.flatten(1))
