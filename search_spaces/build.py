"""build: the network of an architecture, for a task's input and output shape."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.graph import Graph, graph_of, is_piece, network_piece
from search_spaces.loading import PLUG_INS, load_object
from search_spaces.network import GraphNetwork, evaluating
from search_spaces.nodes import Scalar, SpaceError
from search_spaces.space import SearchSpace
from search_spaces.walk import Call

LONGEST_ARCHITECTURE = 500
"""Characters of an architecture's JSON that a message shows."""


class BuildError(SpaceError):
    """An architecture whose network could not be made; the message names the architecture, the place and the cause."""


def build(
    space: SearchSpace,
    architecture: Mapping[str, Scalar],
    input_shape: Sequence[int],
    outputs: int,
    *,
    allow: Sequence[str] = (),
) -> GraphNetwork:
    """The network of `architecture`, made from its graph, in training mode, on the CPU.

    Each Op's factory is called with its decided settings. A parameter `input_shape`, `in_channels` (the shape's first
    size), `in_features` (its last) or `outputs` that the settings do not give is filled in. Shapes are learnt by
    running each piece, as soon as it is made, in eval mode on zeros (a batch of 2). Pieces in an Op's settings are
    handed over as modules; they are taken to have the input shape of the Op itself, so a piece that its Op uses
    elsewhere must be given its sizes in the space.

    Weights come from torch's global generator, as those of every module do: seed it, or fork it, around this call.

    Args:
        space: where the architecture is from.
        architecture: checked against the space.
        input_shape: of one example, without the batch.
        outputs: how many values the network gives per example; known to the factories that ask for it.
        allow: packages that "module:object" factories may be imported from; see `load_object`.

    Raises:
        BuildError: a factory or a piece failed, a piece wrote into its input (others may read it), or values of
            different shapes meet in a sum.
        LoadError: a factory's path leads to nothing, or to a package that is not allowed.
    """
    checked = space.validate(architecture)
    piece = network_piece(space, space.decided(checked))
    try:
        network, _ = Builder(outputs, tuple(allow)).network(graph_of(piece), tuple(input_shape), "")
    except PlaceError as failure:
        shown = checked.to_json()
        if len(shown) > LONGEST_ARCHITECTURE:
            shown = f"{shown[:LONGEST_ARCHITECTURE]}… ({len(shown)} characters)"
        raise BuildError(
            f"{failure} (input shape {tuple(input_shape)}, space {space.name!r}, architecture {shown})"
        ) from failure.__cause__
    return network


class PlaceError(Exception):
    """What failed at one place, without the architecture; for the modules of this package."""


@dataclass(frozen=True)
class Builder:
    """Makes the modules of decided pieces; see `build` for the rules, and for who calls the factories."""

    outputs: int
    allow: tuple[str, ...]

    def network(self, graph: Graph, input_shape: tuple[int, ...], place: str) -> tuple[GraphNetwork, tuple[int, ...]]:
        """The network of a graph, and the shape it gives to an example of `input_shape`."""
        operations: dict[int, nn.Module] = {}
        shapes = [input_shape]
        for index, node in enumerate(graph.nodes[1:], start=1):
            at = f"{place}/{node.name}" if place else node.name
            if node.call is not None:
                shape = shapes[node.inputs[0]]
                operations[index] = self.operation(node.call, shape, at)
                shapes.append(shape_after(operations[index], shape, f"{at}: {_factory_name(node.call)}"))
            else:
                names = [graph.nodes[read].name or "the input" for read in node.inputs]
                shapes.append(combined_shape(node.kind, names, [shapes[read] for read in node.inputs], at))
        return GraphNetwork(graph, operations), shapes[graph.output]

    def operation(self, call: Call, input_shape: tuple[int, ...], place: str) -> nn.Module:
        """The module of one decided Op."""
        settings = {name: self.setting(value, input_shape, f"{place}/{name}") for name, value in call.settings.items()}
        name = _factory_name(call)
        factory = self.factory(call, place)
        try:
            module = factory(**self.filled_in(factory, settings, input_shape))
        except MemoryError:
            raise
        except Exception as error:  # a factory is anybody's code and may raise anything
            shown = ", ".join(
                f"{name}={value!r}" for name, value in settings.items() if not isinstance(value, nn.Module)
            )
            raise PlaceError(
                f"{place}: {name}({shown}) failed on shape {input_shape}: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(module, nn.Module):
            raise PlaceError(f"{place}: {name} must give a torch.nn.Module, got {type(module).__name__}")
        return module

    def setting(self, value: Any, input_shape: tuple[int, ...], place: str) -> Any:
        """A decided setting, with the pieces of a network in it made modules."""
        if isinstance(value, Call):
            return self.operation(value, input_shape, place)
        if is_piece(value):
            return self.network(graph_of(value), input_shape, place)[0]
        if isinstance(value, Mapping):
            return {name: self.setting(part, input_shape, f"{place}/{name}") for name, part in value.items()}
        return value

    def factory(self, call: Call, place: str) -> Callable[..., Any]:
        """The callable behind an Op; `LoadError` if its path leads nowhere, which is no single architecture's fault."""
        factory = call.op.factory
        if isinstance(factory, str):
            factory = load_object(factory, self.allow, ours=PLUG_INS["operation"])
        if not callable(factory):
            raise PlaceError(f"{place}: {call.op.factory} cannot be called; it is a {type(factory).__name__}")
        return factory

    def filled_in(
        self, factory: Callable[..., Any], settings: Mapping[str, Any], input_shape: tuple[int, ...]
    ) -> dict[str, Any]:
        """The settings, and what the factory asks for beyond them."""
        known = {"input_shape": input_shape, "outputs": self.outputs}
        if input_shape:
            known |= {"in_channels": input_shape[0], "in_features": input_shape[-1]}
        try:
            asked = set(inspect.signature(factory).parameters)
        except ValueError:  # some callables written in C do not tell their parameters; then the settings say all
            asked = set()
        return {**{name: value for name, value in known.items() if name in asked}, **settings}


def shape_after(module: nn.Module, shape: tuple[int, ...], who: str) -> tuple[int, ...]:
    """The shape a module gives to an example of `shape`."""
    example = torch.zeros(2, *shape)
    version = example._version
    try:
        with evaluating(module):
            result = module(example)
    except MemoryError:
        raise
    except Exception as error:  # so is a module
        raise PlaceError(f"{who} failed on an input of shape {shape}: {type(error).__name__}: {error}") from error
    if not isinstance(result, Tensor) or result.dim() < 1 or len(result) != 2:
        got = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise PlaceError(f"{who} must give one tensor with the batch (here 2) as its first axis, got {got}")
    if example._version != version:
        raise PlaceError(f"{who} writes into its input, which others may read; make it work on a copy (inplace=False)")
    return tuple(result.shape[1:])


def combined_shape(kind: str, names: Sequence[str], shapes: Sequence[tuple[int, ...]], place: str) -> tuple[int, ...]:
    """The shape of a sum or concatenation; a disagreement names two nodes and their shapes."""
    for name, shape in zip(names, shapes, strict=True):
        kept = slice(None) if kind == "sum" else slice(1, None)
        if shape[kept] != shapes[0][kept] or len(shape) != len(shapes[0]):
            needed = "equal shapes" if kind == "sum" else "shapes that differ in the channels only"
            raise PlaceError(
                f"{place}: a {kind} needs {needed}, but {names[0]} gives {shapes[0]} and {name} gives {shape}"
            )
    return shapes[0] if kind == "sum" else (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _factory_name(call: Call) -> str:
    factory = call.op.factory
    return factory if isinstance(factory, str) else getattr(factory, "__qualname__", repr(factory))
