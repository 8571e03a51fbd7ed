"""Residual blocks: what a block computes is added to (a projection of) its input."""

from __future__ import annotations

from torch import Tensor, nn

from search_spaces.operations.basic import Identity
from search_spaces.operations.convolution import ConvBatchNorm, DepthwiseSeparable, ReluConvBatchNorm
from search_spaces.operations.squeeze_excite import SqueezeExcite
from search_spaces.operations.sum_relu import activated_sum


class ReductionBlock(nn.Module):
    """Half the rows and columns, other channels: what stands between the stages of NAS-Bench-201.

    Source: Dong and Yang, NAS-Bench-201, ICLR 2020, section 2.1: "the basic residual block with a stride of 2"; its
    shortcut is a 2x2 average pooling and a 1x1 convolution.
    Differs: images of odd size work (the border window of the pooling is a smaller one); even ones are not affected.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = ReluConvBatchNorm(in_channels, out_channels, 3, stride=2)
        self.second = ReluConvBatchNorm(out_channels, out_channels, 3)
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True)
        self.projection = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``batch x in_channels x height x width`` to ``batch x out_channels x height/2 x width/2``."""
        y: Tensor = self.projection(self.pool(x)) + self.second(self.first(x))
        return y


class BasicBlock(nn.Module):
    """Two convolutions of one size and a shortcut, then ReLU.

    Source: He et al., Deep Residual Learning, arXiv:1512.03385, figure 5 (left).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvBatchNorm(in_channels, out_channels, kernel_size, stride)
        self.second = ConvBatchNorm(out_channels, out_channels, kernel_size, activation=False)
        self.shortcut = shortcut(in_channels, out_channels, stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``batch x in_channels x height x width`` to ``batch x out_channels x height/stride x width/stride``."""
        return activated_sum((self.second(self.first(x)), self.shortcut(x)), self.activation)


class BottleneckBlock(nn.Module):
    """A 1x1 convolution to fewer channels, one over space, a 1x1 back, and a shortcut, then ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of the convolution over space.
        stride: of the convolution over space.
        reduction: the middle has `out_channels` divided by this, at least one.

    Source: He et al., Deep Residual Learning, arXiv:1512.03385, figure 5 (right); the stride stands at the convolution
    over space, as in torchvision.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, reduction: int = 4
    ) -> None:
        super().__init__()
        middle = max(1, out_channels // reduction)
        self.reduce = ConvBatchNorm(in_channels, middle, 1)
        self.spatial = ConvBatchNorm(middle, middle, kernel_size, stride)
        self.restore = ConvBatchNorm(middle, out_channels, 1, activation=False)
        self.shortcut = shortcut(in_channels, out_channels, stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``batch x in_channels x height x width`` to ``batch x out_channels x height/stride x width/stride``."""
        return activated_sum((self.restore(self.spatial(self.reduce(x))), self.shortcut(x)), self.activation)


class SeparableBlock(nn.Module):
    """A depthwise separable convolution and a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.convolution = DepthwiseSeparable(in_channels, out_channels, kernel_size, stride)
        self.shortcut = shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``batch x in_channels x height x width`` to ``batch x out_channels x height/stride x width/stride``."""
        y: Tensor = self.convolution(x) + self.shortcut(x)
        return y


class InvertedResidual(nn.Module):
    """A 1x1 convolution to more channels, a depthwise one, a linear 1x1 back, and a shortcut.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of the depthwise convolution.
        stride: of the depthwise convolution.
        expansion: the middle has `in_channels` times this.
        squeeze_excite: whether the middle's channels are gated.
        projected: whether a block that changes the shape has a shortcut too, projected; else it has none.

    Source: Sandler et al., MobileNetV2, arXiv:1801.04381, figure 3; the place of the gates is that of Howard et al.,
    MobileNetV3, arXiv:1905.02244, figure 4.
    Differs: ReLU in place of ReLU6.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        expansion: int = 4,
        squeeze_excite: bool = False,
        projected: bool = True,
    ) -> None:
        super().__init__()
        middle = in_channels * expansion
        self.expand = ConvBatchNorm(in_channels, middle, 1)
        self.depthwise = ConvBatchNorm(middle, middle, kernel_size, stride, groups=middle)
        self.gates = SqueezeExcite(middle) if squeeze_excite else None
        self.project = ConvBatchNorm(middle, out_channels, 1, activation=False)
        keeps_shape = stride == 1 and in_channels == out_channels
        self.shortcut = shortcut(in_channels, out_channels, stride) if projected or keeps_shape else None

    def forward(self, x: Tensor) -> Tensor:
        """``batch x in_channels x height x width`` to ``batch x out_channels x height/stride x width/stride``."""
        y: Tensor = self.depthwise(self.expand(x))
        y = self.project(y if self.gates is None else self.gates(y))
        return y if self.shortcut is None else y + self.shortcut(x)


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The input itself where the shape stays, else an average pooling (if strided) and a projection.

    Source: He et al., Bag of Tricks, arXiv:1812.01187, figure 2c (ResNet-D): pooling first loses no pixel.
    """
    if stride == 1 and in_channels == out_channels:
        return Identity()
    projection = ConvBatchNorm(in_channels, out_channels, 1, activation=False)
    return projection if stride == 1 else nn.Sequential(nn.AvgPool2d(stride, stride, ceil_mode=True), projection)
