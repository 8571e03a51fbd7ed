"""log_posterior: of the weights of k networks of one output, given standardised inputs and losses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from predictors.bayesian_network.network import Network
from predictors.bayesian_network.noise import draw_noise

NOISE_MEDIAN, NOISE_SPREAD = 0.2, 1.0
"""The noise's standard deviation is log-normal before there are data: in units of that of the losses, its median is a
fifth, and a factor of e to either side is one standard deviation."""


@dataclass(frozen=True, kw_only=True)
class LogPosterior:
    """Callable as a `hamiltonian.LogDensity`; a position is a network's p weights and, if it is learnt, its noise.

    Args:
        network: of one output.
        x: standardised inputs, shape (n, d).
        y: standardised losses, shape (n,).
        noise: variance of an evaluation in units of the losses' variance; None to learn it, as one more number of a
            position, standard normal before there are data.
    """

    network: Network
    x: Tensor
    y: Tensor
    noise: float | None

    @property
    def width(self) -> int:
        """Numbers of a position: p, one more where the noise is learnt."""
        return self.network.weights + (self.noise is None)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Positions from the prior, shape (count, width)."""
        return torch.randn(count, self.width, generator=generator, dtype=torch.float64)

    def noise_of(self, position: Tensor) -> Tensor:
        """Noise variances of k positions, shape (k,)."""
        if self.noise is not None:
            return torch.full((len(position),), self.noise, dtype=position.dtype)
        return (2.0 * (math.log(NOISE_MEDIAN) + NOISE_SPREAD * position[:, -1])).exp()

    def outputs_of(self, position: Tensor, x: Tensor) -> Tensor:
        """What the networks of k positions give at m points: shape (k, m)."""
        return self.network.outputs_of(position[:, : self.network.weights], x)[:, :, 0]

    def redraw_noise(self, position: Tensor, generator: torch.Generator) -> Tensor:
        """The same positions, the noise drawn from its conditional density given the weights; for a learnt noise."""
        squares = (self.y - self.outputs_of(position, self.x)).square().sum(1)
        drawn = draw_noise(squares, len(self.y), NOISE_MEDIAN, generator)
        return torch.cat([position[:, :-1], drawn[:, None]], dim=1)

    def __call__(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Log posterior densities (k,), up to a constant, and their gradients (k, width)."""
        return self._with_gradient(position, self.x, self.y)

    def estimate(self, position: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The same from some of the trials, unbiased: `rows`, shape (k, b), says which, for each network its own."""
        return self._with_gradient(position, self.x[rows], self.y[rows])

    def _with_gradient(self, position: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        count = len(self.y)
        share = count / y.shape[-1]
        noise = self.noise_of(position)
        outputs, pull = self.network.with_gradient(position[:, : self.network.weights], x)
        errors = y - outputs[:, :, 0]
        squares = share * errors.square().sum(1) / noise
        value = -0.5 * (squares + count * noise.log() + position.square().sum(1))
        slopes = [pull((share * errors / noise[:, None])[:, :, None])]
        if self.noise is None:  # noise = exp(2 (… + spread position))
            slopes.append(NOISE_SPREAD * (squares - count)[:, None])
        return value, torch.cat(slopes, dim=1) - position
