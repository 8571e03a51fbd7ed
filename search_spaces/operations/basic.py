"""Pieces without weights that change nothing, everything, or only the shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Identity(nn.Module):
    """The input. Traits: identity, weightless, zero_preserving."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x


class Zero(nn.Module):
    """Zeros like the input, also where that is infinite or NaN. Traits: zero, weightless, zero_preserving."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return torch.zeros_like(x)


class Flatten(nn.Module):
    """One row of features per example. Traits: weightless, zero_preserving."""

    def forward(self, x: Tensor) -> Tensor:
        """``batch x ...`` to ``batch x features``."""
        return x.flatten(1)
