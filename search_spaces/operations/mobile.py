"""The pieces of mobile networks: they shrink images that are large enough, and no others."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.operations.convolution import ConvBatchNorm
from search_spaces.operations.residual import InvertedResidual

STEM_ROWS = 32
"""Rows and columns that the stem leaves: an image of CIFAR-10 keeps its size, one of ImageNet is halved."""

BLOCK_ROWS = 4
"""Rows and columns that a block leaves: below them the border of a window is larger than the image."""


def mobile_stem(input_shape: Sequence[int], out_channels: int) -> ConvBatchNorm:
    """The first layer on an image: a 3x3 convolution that halves it where `STEM_ROWS` rows and columns are left.

    Args:
        input_shape: channels, height, width.
        out_channels: channels of the output.
    """
    return ConvBatchNorm(input_shape[0], out_channels, 3, stride_leaving(STEM_ROWS, input_shape))


def mobile_block(
    input_shape: Sequence[int],
    out_channels: int,
    kernel_size: int = 3,
    expansion: int = 4,
    squeeze_excite: bool = False,
    shrinks: bool = False,
) -> InvertedResidual:
    """An inverted residual as in the papers: its shortcut is the input itself, or there is none.

    Args:
        input_shape: channels, height, width.
        out_channels: channels of the output.
        kernel_size: of the depthwise convolution.
        expansion: how many times the channels of the input its middle has.
        squeeze_excite: whether the middle's channels are gated.
        shrinks: whether rows and columns are halved, where `BLOCK_ROWS` of them are left.
    """
    stride = stride_leaving(BLOCK_ROWS, input_shape) if shrinks else 1
    return InvertedResidual(
        input_shape[0], out_channels, kernel_size, stride, expansion, squeeze_excite=squeeze_excite, projected=False
    )


def stride_leaving(least: int, input_shape: Sequence[int]) -> int:
    """2 if so many rows and columns are left then, else 1."""
    return 2 if min(input_shape[1:]) >= 2 * least else 1
