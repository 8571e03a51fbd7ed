"""network: k small dense networks of one shape, computed together; outputs and their derivatives.

The weights of a network are one flat vector of p numbers in units of their prior: what multiplies the activations of a
layer with f inputs is ``weight_scale * theta / sqrt(f)``, what is added ``bias_scale * theta``, and the prior of every
theta is a standard normal. In these units the function's size does not depend on the width (Neal, "Bayesian Learning
for Neural Networks", 1996, chapter 2), and no direction is much narrower than another before there are data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from predictors.settings import check_hidden, check_positive

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}

_SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda activated: 1.0 - activated.square(),
    "relu": lambda activated: (activated > 0.0).to(activated.dtype),
}
"""An activation's derivative, from what it gave."""


class Prior(Protocol):
    """What a predictor says of its networks; see `Network`."""

    @property
    def hidden(self) -> tuple[int, ...]:
        """Units of each hidden layer."""
        ...

    @property
    def activation(self) -> str:
        """Its name."""
        ...

    @property
    def weight_scale(self) -> float:
        """Of weights."""
        ...

    @property
    def bias_scale(self) -> float:
        """Of what is added."""
        ...


@dataclass(frozen=True, kw_only=True)
class Network:
    """The shape of a dense network.

    Args:
        inputs: d.
        hidden: units of each hidden layer; none for a linear function.
        outputs: numbers per point.
        activation: a name in `ACTIVATIONS`.
        weight_scale: prior standard deviation of a weight, times the square root of its layer's inputs.
        bias_scale: prior standard deviation of what is added.
    """

    inputs: int
    hidden: tuple[int, ...] = (50,)
    outputs: int = 1
    activation: str = "tanh"
    weight_scale: float = 1.5
    bias_scale: float = 1.0

    def __post_init__(self) -> None:
        check_hidden(self.hidden)
        if not isinstance(self.activation, str) or self.activation not in ACTIVATIONS:
            raise ValueError(f"activation: allowed are {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        check_positive(weight_scale=self.weight_scale, bias_scale=self.bias_scale)

    @classmethod
    def of(cls, prior: Prior, inputs: int) -> Network:
        """The network of one output that a predictor's settings stand for; `ValueError` says what they may not be."""
        return cls(
            inputs=inputs,
            hidden=prior.hidden,
            activation=prior.activation,
            weight_scale=prior.weight_scale,
            bias_scale=prior.bias_scale,
        )

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of each layer."""
        widths = (self.inputs, *self.hidden, self.outputs)
        return tuple(pairwise(widths))

    @property
    def weights(self) -> int:
        """How many: p."""
        return sum((fan_in + 1) * fan_out for fan_in, fan_out in self.layers)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Weights of `count` networks from the prior: shape (count, p)."""
        return torch.randn(count, self.weights, generator=generator, dtype=torch.float64)

    def outputs_of(self, theta: Tensor, x: Tensor) -> Tensor:
        """What k networks give.

        Args:
            theta: shape (k, p).
            x: shape (m, d), the same for all; or (k, m, d).

        Returns:
            Shape (k, m, outputs).
        """
        return self._activations(self._matrices(theta), x)[-1]

    def with_gradient(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """What k networks give, and a function from a loss's derivatives by that to those by theta, shape (k, p).

        Written out, since for networks this small recording the operations costs several times what they do.
        """
        matrices = self._matrices(theta)
        *inputs, outputs = self._activations(matrices, x)

        def pull(back: Tensor) -> Tensor:
            found: list[Tensor] = []
            for layer in range(len(matrices) - 1, -1, -1):
                found[:0] = [
                    (inputs[layer].mT @ back).flatten(1) * self._multiplier(layer),
                    back.sum(1) * self.bias_scale,
                ]
                if layer:
                    back = (back @ matrices[layer][0].mT) * _SLOPES[self.activation](inputs[layer])
            return torch.cat(found, dim=1)

        return outputs, pull

    def jacobian(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """One network's output and its derivatives by the weights.

        Args:
            theta: shape (p,).
            x: shape (m, d).

        Returns:
            Shapes (m,) and (m, p); for networks of one output.
        """
        # each point is a network of its own with one point: k becomes m
        outputs, pull = self.with_gradient(theta.expand(len(x), -1), x[:, None, :])
        return outputs[:, 0, 0], pull(torch.ones_like(outputs))

    def _activations(self, matrices: list[tuple[Tensor, Tensor]], x: Tensor) -> list[Tensor]:
        """The input of each layer, and the output of the last."""
        found = [x.expand(len(matrices[0][0]), *x.shape[-2:])]
        for layer, (weight, bias) in enumerate(matrices):
            value = torch.baddbmm(bias, found[-1], weight)
            found.append(ACTIVATIONS[self.activation](value) if layer + 1 < len(matrices) else value)
        return found

    def _matrices(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each layer what multiplies, shape (k, inputs, outputs), and what is added, shape (k, 1, outputs)."""
        found, start = [], 0
        for layer, (fan_in, fan_out) in enumerate(self.layers):
            middle, stop = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
            weight = theta[:, start:middle].reshape(len(theta), fan_in, fan_out) * self._multiplier(layer)
            found.append((weight, theta[:, middle:stop].reshape(-1, 1, fan_out) * self.bias_scale))
            start = stop
        return found

    def _multiplier(self, layer: int) -> float:
        """From units of the prior to what multiplies; an input of no columns is multiplied by nothing."""
        return self.weight_scale / math.sqrt(max(self.layers[layer][0], 1))
