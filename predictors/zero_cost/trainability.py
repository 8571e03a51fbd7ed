"""trainability: whether gradients keep their size on their way back through the blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
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

ROWS = 16
"""Positions per channel that a covariance is taken over: fewer make its largest singular value larger."""

MOST_DRAWS = 64
"""Of signs, for one block: each is a backward pass through it."""


@proxy
def trainability(network: nn.Module, batch: Batch, loss: Loss) -> float:
    """The mean over blocks of 2 - s - 1 / (s + 1e-6), at most about 0, where s is 1. Larger is better.

    s approximates the largest singular value of a block's Jacobian: that of the covariance between random signs (drawn
    from the batch's seed) at its output and their gradient at its input, positions aligned. A block that strides is
    seen as one whose input channels are the pixels of its windows, one that enlarges images by the windows of its
    outputs; borders that a convolution does not reach are cut off. Where positions cannot be aligned, an example is one
    position. A block that hands gradients on unchanged has nothing to train, which is minus infinity for the network.

    Weights and inputs are drawn from the batch's seed, see `gaussian_start`; of the batch only shape and seed are
    looked at, of the loss nothing. Batch normalisation: batch statistics. Takes 1 F, and 1 B of each draw of signs. A
    network of fewer than two blocks is a `ProxyError`.

    Source: Lee, Ham, AZ-NAS, arXiv:2403.19232, equations 5 to 8 and the published code.
    Differs: the paper draws signs once. Images have positions enough for that; of n positions and c output channels the
    covariance of signs alone has a singular value of (1 + sqrt(c / n))^2, so where n is below 16 c (tables), further
    signs are drawn until it is not, 64 times at most.
    """
    generator = batch.generator()
    blocks = block_outputs(network, gaussian_start(network, batch, generator), least=2)
    if len(blocks) < 2:
        raise ProxyError("the network has a single block, and gradients are followed between blocks")
    scores = []
    for before, after in pairwise(blocks):
        size = _size(before, after, generator)
        if size is None:
            return -math.inf
        scores.append(2 - size - 1 / (size + SMALL))
    return sum(scores) / len(scores)


def _size(before: Features, after: Features, generator: torch.Generator) -> float | None:
    """The s of the block between these features; None where it hands gradients on unchanged."""
    total, rows = torch.zeros(()), 0
    shape = after.values.movedim(after.axis, 1).shape  # the same draws, wherever the channels are
    for _ in range(MOST_DRAWS):
        drawn = torch.randint(2, shape, generator=generator).movedim(1, after.axis)
        signs = drawn.to(after.values) * 2 - 1
        gradient = _gradient(after.values, before.values, signs)
        if gradient is None:
            return 0.0  # a block that its input does not reach lets no gradient through
        if gradient.shape == signs.shape and torch.equal(gradient, signs):
            return None
        if not torch.isfinite(gradient).all():
            raise ProxyError("a gradient is NaN or infinite")
        back, ahead = _aligned(Features(gradient, before.axis), Features(signs, after.axis))
        total = total + back.double().T @ ahead.double()
        rows += len(ahead)
        if rows >= ROWS * ahead.shape[1]:
            break
    matrix = total / rows
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1])))


def _gradient(after: Tensor, before: Tensor, signs: Tensor) -> Tensor | None:
    """The gradient of the signed sum of a block's outputs with respect to its inputs; None where they are cut off."""
    if not (after.requires_grad and before.requires_grad):
        return None
    (found,) = torch.autograd.grad(after, before, signs, retain_graph=True, allow_unused=True)
    return found


def _aligned(gradient: Features, signs: Features) -> tuple[Tensor, Tensor]:
    """Both as positions x channels, with the same positions."""
    if gradient.values.dim() == 4 and signs.values.dim() == 4:
        inside, outside = (features.values.movedim(features.axis, 1) for features in (gradient, signs))
        shape = [min(sizes) for sizes in zip(inside.shape[2:], outside.shape[2:], strict=True)]
        back, ahead = _windows(inside, shape), _windows(outside, shape)
        if back is not None and ahead is not None:
            return back, ahead
    rows, others = gradient.by_position(), signs.by_position()
    return (rows, others) if len(rows) == len(others) else (gradient.values.flatten(1), signs.values.flatten(1))


def _windows(images: Tensor, shape: Sequence[int]) -> Tensor | None:
    """Images (examples x channels x height x width) as positions x channels of pixels, one position per window.

    Args:
        images: what is left over is cut off all around; what the last windows lack is zero.
        shape: rows and columns of windows, not more than there are of pixels. None if they would lack more than a part
            of a window.
    """
    steps = [round(size / windows) for size, windows in zip(images.shape[2:], shape, strict=True)]
    lacking = [windows * step - size for size, windows, step in zip(images.shape[2:], shape, steps, strict=True)]
    if any(lack >= step for lack, step in zip(lacking, steps, strict=True)):
        return None
    above, left = (min(0, lack) // 2 for lack in lacking)
    images = functional.pad(images, (left, lacking[1] - left, above, lacking[0] - above))
    pixels = images.unfold(2, steps[0], steps[0]).unfold(3, steps[1], steps[1])
    # examples x rows x columns x channels x pixels of a window
    return pixels.movedim(1, 3).flatten(3).flatten(0, 2)
