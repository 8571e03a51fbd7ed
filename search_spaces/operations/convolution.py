"""Convolutions with "same" borders, each with its batch normalisation; none of them has a bias of its own."""

from __future__ import annotations

from torch import Tensor, nn

from search_spaces.operations.depthwise import convolved
from search_spaces.operations.pooling import same_padding


class ReluConvBatchNorm(nn.Module):
    """ReLU, convolution, batch normalisation: the convolution of NAS-Bench-201.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; those of the input unless given.
        kernel_size: an odd number of rows and columns.
        stride: distance of the windows.

    Source: Dong and Yang, NAS-Bench-201, ICLR 2020, section 2.1 ("an operation sequence of ReLU, convolution, and batch
    normalization").
    """

    def __init__(
        self, in_channels: int, out_channels: int | None = None, kernel_size: int = 3, stride: int = 1
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        self.activation = nn.ReLU()
        self.convolution = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, same_padding(kernel_size), bias=False
        )
        self.normalization = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, rectified: bool = False) -> Tensor:
        """``batch x in_channels x height x width`` to ``batch x out_channels x height/stride x width/stride``.

        With `rectified`, x is what the ReLU gave already: a `GraphNetwork` may make it together with a sum.
        """
        y: Tensor = self.normalization(self.convolution(x if rectified else self.activation(x)))
        return y


class ConvBatchNorm(nn.Module):
    """Convolution and batch normalisation, and a ReLU after them unless `activation` is False.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: an odd number of rows and columns.
        stride: distance of the windows.
        groups: independent groups of channels; `in_channels` of them make it depthwise.
        activation: whether a ReLU follows.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        padding = same_padding(kernel_size)
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        self.normalization = nn.BatchNorm2d(out_channels)
        self.activation = nn.ReLU() if activation else None

    def forward(self, x: Tensor) -> Tensor:
        """``batch x in_channels x height x width`` to ``batch x out_channels x height/stride x width/stride``."""
        y: Tensor = self.normalization(convolved(self.convolution, x))
        return y if self.activation is None else self.activation(y)


class DepthwiseSeparable(nn.Module):
    """A depthwise convolution, then a pointwise one, each with batch normalisation and ReLU.

    Source: Howard et al., MobileNets, arXiv:1704.04861, figure 3 (right).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = ConvBatchNorm(in_channels, in_channels, kernel_size, stride, groups=in_channels)
        self.pointwise = ConvBatchNorm(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``batch x in_channels x height x width`` to ``batch x out_channels x height/stride x width/stride``."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return y


class Stem(nn.Module):
    """The first layer on an image: a 3x3 convolution and batch normalisation, without activation."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.normalization = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``batch x in_channels x height x width`` to ``batch x out_channels x height x width``."""
        y: Tensor = self.normalization(self.convolution(x))
        return y
