"""block_outputs: the features at the places that everything in a network passes through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from predictors.zero_cost.channels import channel_axis
from predictors.zero_cost.error import ProxyError
from search_spaces.network import GraphNetwork


@dataclass(frozen=True)
class Features:
    """What a block gives.

    Args:
        values: part of the network's autograd graph.
        axis: of the channels.
    """

    values: Tensor
    axis: int

    def by_position(self) -> Tensor:
        """The same values as positions (of all examples) x channels."""
        moved = self.values.movedim(self.axis, -1)
        return moved.reshape(-1, moved.shape[-1])


def block_outputs(network: nn.Module, inputs: Tensor, least: int = 1) -> list[Features]:
    """The features after each block, from the first to the last one before the outputs; at least one.

    In a network that was built from an architecture, a block ends at each value that every path from the input to the
    output passes through: the stem, each cell, each residual block. Of any other module the blocks are its parts (in a
    `Sequential`, or a module of one part, the parts of that) in the order they are called. Where there are fewer than
    `least`, parts inside these that every path passes through end a block too, as deep as it takes. What lies before
    the first weights, and the outputs themselves, are no features. A module that returns the tensor it was given,
    unwritten (`Identity`, dropout), is no block. What is written in place into features by what
    comes after them is not seen in them.

    Raises:
        ProxyError: there are none. Fewer than `least` are no error.
    """
    outer = _places_of_graph(network) if isinstance(network, GraphNetwork) else _places_of_parts(network)
    places, depth = outer, 0
    seen = _features(network, inputs, places)
    while len(seen) < least:
        depth += 1
        finer = [inner for place in outer for inner in place.inside(depth)]
        if finer == places:
            break
        places = finer
        passed = [place for place in places if place in outer or _is_passed_by_all(network, inputs, place)]
        seen = max(seen, _features(network, inputs, passed), key=len)  # of equally many, the outer ones
    if not seen:
        raise ProxyError("the network has no features between its input and its outputs")
    return seen


@dataclass(frozen=True)
class _Handed:
    """Features, and the copy of them that the network goes on with: what it writes there, they do not see."""

    features: Features
    copy: Tensor
    version: int

    @classmethod
    def on(cls, values: Tensor, axis: int) -> _Handed:
        """Of what stands at a place, the axis being that of the channels."""
        copied = values.clone()
        return cls(Features(values, axis), copied, copied._version)

    def is_unwritten(self, value: Tensor) -> bool:
        """Whether this value is that copy, as it was handed on."""
        return value is self.copy and value._version == self.version


def _features(network: nn.Module, inputs: Tensor, places: Sequence[_Place]) -> list[Features]:
    """Of one forward pass, those at the places from the first weights on, but for the outputs."""
    seen: list[_Handed] = []

    def keep(values: Tensor, axis: int) -> Tensor:
        if any(handed.is_unwritten(values) for handed in seen):
            return values
        seen.append(_Handed.on(values, axis))
        return seen[-1].copy

    first = next((at for at, place in enumerate(places) if place.is_weighted), len(places))
    hooks = [place.intercept(keep) for place in places[first:]]
    try:
        outputs = network(inputs.clone())  # it may write there, and is run on them again
    finally:
        for hook in hooks:
            hook.remove()
    if seen and seen[-1].copy is outputs:
        seen.pop()
    return [handed.features for handed in seen]


def _is_passed_by_all(network: nn.Module, inputs: Tensor, place: _Place) -> bool:
    """Whether the outputs depend on the inputs through this place alone: not at all, once it is cut.

    Inputs without gradients (tokens) do not tell; their places are taken as those of any other module, by their order.
    """
    if not inputs.is_floating_point():
        return True
    asked = inputs.detach().requires_grad_()
    hook = place.intercept(lambda values, axis: values.detach().clone())
    try:
        with torch.enable_grad():
            total = network(asked.clone()).sum()
    finally:
        hook.remove()
    if not total.requires_grad:
        return True
    (found,) = torch.autograd.grad(total, asked, allow_unused=True)
    return found is None


@dataclass(frozen=True)
class _Place:
    """What goes into a module, or comes out of it, at its first call."""

    module: nn.Module
    goes_in: bool

    @property
    def is_weighted(self) -> bool:
        """Whether there are weights in the module; what goes in is a place only behind some."""
        return self.goes_in or next(self.module.parameters(), None) is not None

    def inside(self, depth: int) -> list[_Place]:
        """What comes out of the modules inside, so deep, each after those inside it; then the place itself."""
        if self.goes_in or not depth:
            return [self]
        children = [_Place(child, goes_in=False) for child in self.module.children()]
        return [*(inner for child in children for inner in child.inside(depth - 1)), self]

    def intercept(self, change: Callable[[Tensor, int], Tensor]) -> RemovableHandle:
        """Have the first tensor here replaced: (tensor, axis of its channels) -> what the network goes on with."""
        done: list[bool] = []

        def replaced(value: Any, of: nn.Module | None) -> Any:
            first = value[0] if isinstance(value, tuple) and value else value
            if done or not isinstance(first, Tensor) or first.dim() < 2:
                return None
            done.append(True)
            return _with_first(value, change(first, channel_axis(of, first)))

        if self.goes_in:
            return self.module.register_forward_pre_hook(lambda module, given: replaced(given, None))
        return self.module.register_forward_hook(lambda module, given, result: replaced(result, module))


def _with_first(value: Any, first: Tensor) -> Any:
    """The tensor, or the same tuple (a named one too) with it in the first place."""
    if not isinstance(value, tuple):
        return first
    items = (first, *value[1:])
    return value._make(items) if hasattr(value, "_make") else items


def _places_of_graph(network: GraphNetwork) -> list[_Place]:
    """Count paths: a value lies on all of them if those to it times those from it are all there are."""
    to, back, weighted = {0: 1}, {network.output: 1}, {0: False}
    for step in network.plan:
        to[step.value] = sum(to[read] for read in step.inputs)
        weighted[step.value] = any(weighted[read] for read in step.inputs) or (
            step.kind == "op" and next(network.operations[step.operation].parameters(), None) is not None
        )
    for step in reversed(network.plan):
        for read in step.inputs:
            back[read] = back.get(read, 0) + back.get(step.value, 0)
    places = []
    for step in network.plan:
        value = step.value
        if not weighted[value] or to[value] * back.get(value, 0) != to[network.output]:
            continue
        reader = next((after for after in network.plan if after.kind == "op" and value in after.inputs), None)
        if step.kind == "op":
            places.append(_Place(network.operations[step.operation], goes_in=False))
        elif reader is not None:  # sums are no modules; whoever reads one is
            places.append(_Place(network.operations[reader.operation], goes_in=True))
    return places


def _places_of_parts(network: nn.Module) -> list[_Place]:
    return [_Place(part, goes_in=False) for part in _parts(network)]


def _parts(network: nn.Module) -> list[nn.Module]:
    children = list(network.children())
    if isinstance(network, nn.Sequential) or len(children) == 1:
        return [part for child in children for part in _parts(child)] or [network]
    return children if children and not _is_leaf(network) else [network]


def _is_leaf(module: nn.Module) -> bool:
    """Whether a module is PyTorch's own, and so one layer, whatever is inside it."""
    return type(module).__module__.startswith("torch.nn")
