"""The learning rate and the first weights of a network by its own graph, from the learning rate of a plain chain.

Source: Chen, Wu, Wang & Hanin, Principled Architecture-aware Scaling of Hyperparameters, ICLR 2024: the weights by
equation 4, the learning rate by equations 8 and 9: eta ~ (sum over paths of L^3)^(-1/2) / q, where L is the number of
layers with weights on a path from the input to the output, and q the side of the kernels.

Differs: the authors add up the paths of one cell and leave the stack of cells aside; over a whole network their number
grows exponentially. Here each path counts with the share of the signal that it carries at the start, the product of
1 / (number of summands) over the sums on its way, which equation 4 sees to. The shares add up to 1, so that a chain
gets what equation 8 gives it, and so does any network without sums. Kernels are those of the convolutions, in the mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from search_spaces.network import evaluating
from workers.training.settings import TrainingSettings

Node: TypeAlias = Any
"""A node of autograd's graph."""
Moments: TypeAlias = tuple[float, float, float]
"""Means of L, L^2 and L^3."""

PRODUCTS = ("ConvolutionBackward", "AddmmBackward", "MmBackward", "BmmBackward", "BaddbmmBackward")
"""What a layer with weights is to autograd."""

BASE_KERNEL = 3
"""Side of the convolutions of the chain that the learning rate is for, as in the authors' code."""


@dataclass(frozen=True, kw_only=True)
class Structure:
    """What the rule asks of a network.

    Args:
        cubed_depth: mean of L^3 over the paths, each by its share; 0 where nothing leads from the input to the output.
        summands: of each weight, how many values the sum that its layer goes into has; 1 for none.
    """

    cubed_depth: float
    summands: Mapping[Tensor, int]


def scaled(
    network: nn.Module, input_shape: Sequence[int], settings: TrainingSettings, *, seed: int | None
) -> TrainingSettings:
    """The settings with the network's own learning rate; its weights are drawn anew unless `seed` is None.

    Weights of layers get a normal distribution of variance 2 / (fan-in x summands), their biases 0.

    Args:
        network: what is to be trained.
        input_shape: of one example.
        settings: learning_rate is that of a chain of `base_depth` layers.
        seed: of the weights.
    """
    found = structure(network, input_shape)
    if not found.cubed_depth:
        return settings
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight, summands in found.summands.items():
                fan_in = math.prod(weight.shape[1:])
                drawn = torch.randn(weight.shape, generator=generator) * math.sqrt(2 / (fan_in * summands))
                weight.copy_(drawn)
            for module in network.modules():
                bias = getattr(module, "bias", None)
                if isinstance(bias, Tensor) and getattr(module, "weight", None) in found.summands:
                    bias.zero_()
    sides = [weight.shape[-1] for weight in found.summands if weight.ndim > 2]
    kernel = sum(sides) / len(sides) if sides else BASE_KERNEL
    factor = math.sqrt(settings.base_depth**3 / found.cubed_depth) * BASE_KERNEL / kernel
    return replace(settings, learning_rate=settings.learning_rate * factor)


def structure(network: nn.Module, input_shape: Sequence[int]) -> Structure:
    """Read the paths of a network from what autograd notes of one forward pass in evaluation mode."""
    device = next((parameter.device for parameter in network.parameters()), None)
    example = torch.zeros(2, *input_shape, device=device, requires_grad=True)
    with evaluating(network), torch.enable_grad():
        output = network(example)
    nodes = _from_inputs_to_output(output.grad_fn)
    users = {node: 0 for node in nodes}
    for node in nodes:
        for child in _children(node):
            users[child] += 1
    moments: dict[Node, Moments] = {}
    leaves: dict[Node, list[Node]] = {}
    for node in nodes:
        if getattr(node, "variable", None) is example:
            moments[node] = (0.0, 0.0, 0.0)
            continue
        reached = [child for child in _children(node) if child in moments]
        if not reached:
            continue
        if _is_sum(node):
            # a sum of several values is a chain of sums of two
            reached = [
                leaf
                for child in reached
                for leaf in (leaves[child] if child in leaves and users[child] == 1 else [child])
            ]
            leaves[node] = reached
        mean = [sum(moments[child][power] for child in reached) / len(reached) for power in range(3)]
        if _weights(node):
            one, two, three = mean
            mean = [one + 1, two + 2 * one + 1, three + 3 * two + 3 * one + 1]
        moments[node] = (mean[0], mean[1], mean[2])
    last = moments.get(output.grad_fn)
    return Structure(cubed_depth=0.0 if last is None else last[2], summands=_summands(nodes, moments, leaves))


def _summands(
    nodes: Sequence[Node], moments: Mapping[Node, Moments], leaves: Mapping[Node, Sequence[Node]]
) -> dict[Tensor, int]:
    degree = dict.fromkeys(nodes, 1)
    found: dict[Tensor, int] = {}
    for node in reversed(nodes):
        if node not in moments:
            continue
        weights = _weights(node)
        for weight in weights:
            found[weight] = max(degree[node], found.get(weight, 1))
        below = leaves.get(node) or [child for child in _children(node) if child in moments]
        passed = 1 if weights else max(degree[node], len(leaves.get(node, ())))
        for child in below:
            degree[child] = max(degree[child], passed)
    return found


def _from_inputs_to_output(output: Node) -> list[Node]:
    """All nodes that lead to the output, each after those it reads."""
    order: list[Node] = []
    seen: set[Node] = set()
    waiting: list[tuple[Node, bool]] = [] if output is None else [(output, False)]
    while waiting:
        node, is_done = waiting.pop()
        if is_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting += [(child, False) for child in _children(node)]
    return order


def _children(node: Node) -> list[Node]:
    return [child for child, _ in node.next_functions if child is not None]


def _is_sum(node: Node) -> bool:
    return str(node.name()).startswith("AddBackward")


def _weights(node: Node) -> list[Tensor]:
    """The weights that a layer's product reads, perhaps transposed; empty for what is no layer."""
    if not str(node.name()).startswith(PRODUCTS):
        return []
    found: list[Tensor] = []
    for child in _children(node):
        while not hasattr(child, "variable") and len(_children(child)) == 1:
            child = _children(child)[0]
        weight = getattr(child, "variable", None)
        if isinstance(weight, nn.Parameter) and weight.ndim >= 2:
            found.append(weight)
    return found
