"""Which parameters count as weights, which modules as normalisations, and weights drawn anew."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from predictors.zero_cost.error import ProxyError

NORMALIZATIONS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
)
BATCH_NORMALIZATIONS: tuple[type[nn.Module], ...] = (nn.modules.batchnorm._BatchNorm,)


def weights(network: nn.Module) -> list[Tensor]:
    """The parameters that connect units: those of two or more axes, outside normalisations. Each once.

    For convolutions and linear layers these are their weights without biases, which is what the papers sum over; the
    matrices of recurrent layers and of attention count in the same way.
    """
    found = {id(w): w for _, module in network.named_modules() for w in own_weights(module)}
    if not found:
        raise ProxyError("the network has no weights (parameters of two or more axes)")
    return list(found.values())


def own_weights(module: nn.Module) -> list[Tensor]:
    """The weights that belong to a module itself, not to what is inside it."""
    if isinstance(module, NORMALIZATIONS):
        return []
    return [w for w in module.parameters(recurse=False) if w.dim() >= 2 and w.is_floating_point()]


def biases(network: nn.Module) -> list[Tensor]:
    """What is added to features: the biases of modules with weights, and the shifts of normalisations.

    A parameter of one axis elsewhere may as well be a scale, a gate or a slope.
    """
    known = {id(weight) for weight in weights(network)}
    return [
        parameter
        for module in network.modules()
        if isinstance(module, NORMALIZATIONS) or own_weights(module)
        for name, parameter in module.named_parameters(recurse=False)
        if "bias" in name.split("_") and id(parameter) not in known
    ]


@torch.no_grad()
def draw_weights(network: nn.Module, draw: Callable[[Tensor], Tensor]) -> None:
    """Put what `draw` makes into every weight, zeros into `biases`, ones into the scales of normalisations.

    All else, such as a hand-written normalisation's scale, is left as it is. Drawn on the CPU, so that every device
    gets the same; `draw` fills the tensor it is given.
    """
    for weight in weights(network):
        weight.copy_(draw(torch.empty(weight.shape)))
    for bias in biases(network):
        bias.zero_()
    for module in network.modules():
        if isinstance(module, NORMALIZATIONS) and isinstance(scale := getattr(module, "weight", None), Tensor):
            scale.fill_(1.0)


def skip_normalization(network: nn.Module) -> None:
    """Have every normalisation hand on its input as it is; none runs, so that one example will do for all of them."""
    for module in network.modules():
        if isinstance(module, NORMALIZATIONS):
            module.forward = lambda given: given
