"""noise: draws of an evaluation's noise given the errors, from its own conditional density (a Gibbs step).

With S the sum of n squared errors and the noise's standard deviation ``m exp(s)``, s standard normal before there are
data, the conditional is ``log p(s) = -S exp(-2 s) / (2 m^2) - n s - s^2 / 2`` up to a constant. It is concave, so one
grid around its mode has all of its mass.
"""

from __future__ import annotations

import torch
from torch import Tensor

_NEWTON_STEPS = 10
"""From where they start they rise to the mode without passing it; the last ones double the digits."""

_BELOW, _ABOVE, _POINTS = -8.0, 12.0, 401
"""The grid, in units of the curvature at the mode: left of it the density falls faster than a normal one does, right of
it more slowly."""


def draw_noise(squares: Tensor, count: int, median: float, generator: torch.Generator) -> Tensor:
    """Draws of s, shape (k,).

    Args:
        squares: S of k networks, shape (k,).
        count: n.
        median: m, the noise's standard deviation before there are data.
        generator: of the draws.
    """
    # errors of exactly 0 are as good as errors of 1e-100
    ratio = (squares / median**2).clamp(min=1e-200)
    mode = _mode(ratio, count)
    width = (2.0 * ratio * (-2.0 * mode).exp() + 1.0).rsqrt()
    grid = mode[:, None] + width[:, None] * torch.linspace(_BELOW, _ABOVE, _POINTS, dtype=squares.dtype)
    logs = -0.5 * ratio[:, None] * (-2.0 * grid).exp() - count * grid - 0.5 * grid.square()
    below = (logs - logs.amax(1, keepdim=True)).exp().cumsum(1)
    chosen = torch.rand(len(grid), 1, generator=generator, dtype=squares.dtype) * below[:, -1:]
    return grid.gather(1, torch.searchsorted(below, chosen))[:, 0]


def _mode(ratio: Tensor, count: int) -> Tensor:
    """Where ``ratio exp(-2 s) - n - s`` is 0, shape (k,)."""
    unpulled = 0.5 * (ratio / count).log()  # the mode of the likelihood alone
    # both are left of the mode: there the derivative falls, more and more slowly, so no step of Newton's is too long
    mode = torch.maximum(0.5 * (ratio / (count + unpulled.clamp(min=0.0))).log(), torch.full_like(ratio, -count))
    for _ in range(_NEWTON_STEPS):
        pulled = ratio * (-2.0 * mode).exp()
        mode = mode + (pulled - count - mode) / (2.0 * pulled + 1.0)
    return mode
