"""The last piece of a network: from features to the task's outputs (logits of classes, or regression values)."""

from __future__ import annotations

from torch import Tensor, nn


class ClassifierHead(nn.Module):
    """Batch normalisation, ReLU, mean over the image, linear map: the head of NAS-Bench-201."""

    def __init__(self, in_channels: int, outputs: int) -> None:
        super().__init__()
        self.normalization = nn.BatchNorm2d(in_channels)
        self.activation = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(in_channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``batch x in_channels x height x width`` to ``batch x outputs``."""
        y: Tensor = self.linear(self.pool(self.activation(self.normalization(x))).flatten(1))
        return y


class PoolingHead(nn.Module):
    """Mean over the image, dropout, linear map: for features that are normalised and activated already."""

    def __init__(self, in_channels: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else None
        self.linear = nn.Linear(in_channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``batch x in_channels x height x width`` to ``batch x outputs``."""
        y: Tensor = self.pool(x).flatten(1)
        if self.dropout is not None:
            y = self.dropout(y)
        logits: Tensor = self.linear(y)
        return logits


class LinearHead(nn.Module):
    """One linear map from a row of features."""

    def __init__(self, in_features: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``batch x in_features`` to ``batch x outputs``."""
        y: Tensor = self.linear(x)
        return y
