"""Pooling with "same" borders: a stride of s gives ceil(size / s) rows and columns."""

from __future__ import annotations

from torch import Tensor, nn


class AveragePool(nn.Module):
    """Mean over a window; what lies outside the image is not counted. Traits: weightless, zero_preserving.

    Args:
        kernel_size: an odd number of rows and columns.
        stride: distance of the windows.
    """

    def __init__(self, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        padding = same_padding(kernel_size)
        self.pool = nn.AvgPool2d(kernel_size, stride, padding, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        """``batch x channels x height x width``, channels kept."""
        pooled: Tensor = self.pool(x)
        return pooled


class MaximumPool(nn.Module):
    """Largest value of a window. Traits: weightless, zero_preserving.

    Args:
        kernel_size: an odd number of rows and columns.
        stride: distance of the windows.
    """

    def __init__(self, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(kernel_size, stride, same_padding(kernel_size))

    def forward(self, x: Tensor) -> Tensor:
        """``batch x channels x height x width``, channels kept."""
        pooled: Tensor = self.pool(x)
        return pooled


def same_padding(kernel_size: int) -> int:
    """The border that keeps the size at stride 1; only an odd window has one."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd and at least 1, got {kernel_size!r}")
    return kernel_size // 2
