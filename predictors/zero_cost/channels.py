"""Where a tensor has its channels."""

from __future__ import annotations

from torch import Tensor, nn


def channel_axis(module: nn.Module | None, tensor: Tensor) -> int:
    """The axis of channels of what a module gives: the second for images and convolutions, else the last (features).

    Tensors are ``batch x channels x height x width``, ``batch x steps x features`` or ``batch x features``. Linear
    layers and normalisations of the last axis have their channels there, in images too; of images with channels last
    that anything else gives (a function, an activation) nobody can tell, and they are read as the others.
    """
    if isinstance(module, nn.Linear) or _normalizes_last(module):
        return tensor.dim() - 1
    is_convolution = isinstance(module, nn.modules.conv._ConvNd)
    return 1 if is_convolution or tensor.dim() >= 4 else tensor.dim() - 1


def _normalizes_last(module: nn.Module | None) -> bool:
    return isinstance(module, nn.LayerNorm | nn.RMSNorm) and len(module.normalized_shape) == 1
