"""friction: stochastic gradient Hamiltonian Monte Carlo, for several chains at once.

Source: Chen, Fox, Guestrin, "Stochastic Gradient Hamiltonian Monte Carlo", ICML 2014, equation 15: with v the momentum
times the step, ``v <- (1 - alpha) v - eta grad U + N(0, 2 (alpha - beta) eta)`` and ``theta <- theta + v``. The noise
that is added makes up for what friction takes, less the part beta that the gradient's own noise brings already.
Differs: eta is one number per weight, learnt in the burn-in and constant afterwards, as in Springenberg et al.,
"Bayesian Optimization with Robust Bayesian Neural Networks", NIPS 2016, section 4, but it is epsilon squared over the
gradients' mean square itself, not over its root: at equilibrium that mean square is the mean curvature, plus the
variance V of a gradient that is estimated, so eta times the curvature is about epsilon squared in every direction,
however sharp. With the root it grows with the curvature's root, and steps no longer hold together where the noise is
small. And beta, eta V / 2, is then at most half of epsilon squared, far below alpha: it is taken to be 0.
(The root is right for the way down in the first half of the burn-in, where gradients tell the distance and not the
curvature: it bounds each step by epsilon squared.)
What is on another scale at every place, such as the noise's logarithm, is not moved but drawn again given the weights
(a Gibbs step, as Chen et al. do with hyperparameters).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Gradient: TypeAlias = Callable[[Tensor], Tensor]
"""Positions of k chains, shape (k, p) -> (estimates of) the gradients of their log densities, shape (k, p)."""

Redraw: TypeAlias = Callable[[Tensor, int], Tensor]
"""Positions of k chains and the number of the step -> the same with some of their numbers drawn again."""

_MEMORY = 0.97
"""Of the moving average of squared gradients: about thirty steps, so that a steep start is forgotten soon."""

_JUMP = 10.0
"""A squared gradient so many times its average is taken for a change of the curvature and not for chance. The chains
begin far away, where such jumps are met; a smaller number brakes every chain for the luck of each."""


def step(
    position: Tensor,
    velocity: Tensor,
    gradient: Tensor,
    rate: Tensor | float,
    friction: float,
    generator: torch.Generator,
    gradient_noise: Tensor | float = 0.0,
) -> tuple[Tensor, Tensor]:
    """One step of equation 15: new positions and velocities, both of shape (k, p).

    Args:
        position: theta.
        velocity: v.
        gradient: of the log density, so minus that of U.
        rate: eta, one number or one per weight.
        friction: alpha, in (0, 1].
        generator: of the noise.
        gradient_noise: variance of the gradient's estimate, V; beta is ``eta V / 2``.
    """
    beta = torch.as_tensor(0.5 * rate * gradient_noise, dtype=position.dtype)
    added = (2.0 * (friction - beta).clamp(min=0.0) * rate).sqrt()
    noise = torch.randn(position.shape, generator=generator, dtype=position.dtype)
    velocity = (1.0 - friction) * velocity + rate * gradient + added * noise
    return position + velocity, velocity


def sample_chains(
    gradient: Gradient,
    start: Tensor,
    *,
    burn_in: int,
    draws: int,
    thinning: int,
    step_size: float,
    friction: float,
    generator: torch.Generator,
    moving: Tensor | float = 1.0,
    redraw: Redraw | None = None,
) -> Tensor:
    """Draw from a density whose gradient is estimated: shape (draws, k, p).

    Args:
        gradient: of the log density.
        start: where the chains begin, shape (k, p).
        burn_in: steps that are thrown away: the first half goes down to where the density is, the second learns rates.
        draws: positions to keep of each chain.
        thinning: steps from one kept position to the next.
        step_size: epsilon; a weight's rate is its square over its gradients' mean square.
        friction: alpha.
        generator: of the noise.
        moving: 1 for numbers that the steps move, 0 for those that `redraw` draws; shape (p,).
        redraw: draws numbers that the steps do not move, given the others; called before each step.
    """
    position, velocity = start, torch.zeros_like(start)
    second = torch.ones_like(start[:1])
    half = burn_in // 2
    kept = []
    for number in range(burn_in + draws * thinning):
        if redraw is not None:
            position = redraw(position, number)
        slope = gradient(position)
        if number < burn_in:
            squares = slope.square()
            mean, largest = squares.mean(0, keepdim=True), squares.amax(0, keepdim=True)
            # shared by the chains, so that the rates are the same density's; what the way down was like is forgotten
            second = largest if number in (0, half) else _MEMORY * second + (1.0 - _MEMORY) * mean
            # a gradient that jumps is met at once, not only after the average has seen it; from one on, the prior's own
            # curvature
            if number < half:
                rate = moving * step_size**2 / torch.maximum(second, largest).clamp(min=1.0).sqrt()
            elif number + 1 < burn_in:
                rate = moving * step_size**2 / torch.maximum(second, largest / _JUMP).clamp(min=1.0)
            else:
                rate = moving * step_size**2 / second.clamp(min=1.0)
        position, velocity = step(position, velocity, slope, rate, friction, generator)
        if number >= burn_in and (number - burn_in + 1) % thinning == 0:
            kept.append(position)
    return torch.stack(kept)
