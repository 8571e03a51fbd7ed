"""Squeeze and excite: channels weighed by what all of them say about the whole image."""

from __future__ import annotations

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Every channel times a gate from 0 to 1, computed from the means of all channels.

    Args:
        channels: of the input and the output.
        reduction: the layer between has `channels` divided by this, at least one.

    Source: Hu et al., Squeeze-and-Excitation Networks, arXiv:1709.01507, figure 2.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        middle = max(1, channels // reduction)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = nn.Conv2d(channels, middle, 1)
        self.activation = nn.ReLU()
        self.excite = nn.Conv2d(middle, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """``batch x channels x height x width``, shape kept."""
        y: Tensor = x * self.gate(self.excite(self.activation(self.squeeze(self.pool(x)))))
        return y
