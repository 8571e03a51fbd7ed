"""tally: the exact parameters and multiply-accumulates of many architectures, each operation counted once for all.

A search that asks for the cost of thousands of architectures cannot build each one's network. What an operation costs
depends on its settings and on the shape that it is given, and an architecture's cost is the sum of its operations'; so
operations are built once, and what they cost is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from search_spaces.build import Builder, BuildError, PlaceError, combined_shape, shape_after
from search_spaces.cost import cost
from search_spaces.graph import graph_of, is_piece, network_piece
from search_spaces.nodes import Scalar
from search_spaces.space import SearchSpace
from search_spaces.walk import Call


class Count(NamedTuple):
    """What a network, or a part of it, takes; see `search_spaces.cost.Cost`."""

    parameters: int
    macs: int


class _Counted(NamedTuple):
    cost: Count
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Counts for one space and task, equal to `search_spaces.cost.cost` of the built networks.

    Where one factory hands the same module to several places, its parameters are counted once for each of them, as no
    built network is looked at.

    Args:
        space: whose architectures are counted; it must describe a network.
        input_shape: of one example, without the batch.
        outputs: how many values a network gives per example.
        allow: packages that "module:object" factories may be imported from.
    """

    space: SearchSpace
    input_shape: tuple[int, ...]
    outputs: int
    allow: Sequence[str] = ()
    _known: dict[object, _Counted] = field(default_factory=dict, init=False, repr=False, compare=False)

    def count(self, architecture: Mapping[str, Scalar]) -> Count:
        """The cost of one architecture's network.

        Raises:
            BuildError: there is no such network; see `search_spaces.build.build`.
        """
        checked = self.space.validate(architecture)
        graph = graph_of(network_piece(self.space, self.space.decided(checked)))
        shapes = [self.input_shape]
        parameters = macs = 0
        try:
            for node in graph.nodes[1:]:
                if node.call is None:
                    names = [graph.nodes[read].name or "the input" for read in node.inputs]
                    shapes.append(combined_shape(node.kind, names, [shapes[read] for read in node.inputs], node.name))
                    continue
                counted = self._operation(node.call, shapes[node.inputs[0]], node.name)
                shapes.append(counted.shape)
                parameters += counted.cost.parameters
                macs += counted.cost.macs
        except PlaceError as failure:
            raise BuildError(
                f"{failure} (input shape {self.input_shape}, space {self.space.name!r})"
            ) from failure.__cause__
        return Count(parameters, macs)

    def _operation(self, call: Call, shape: tuple[int, ...], place: str) -> _Counted:
        # an Op's decided settings tell its module apart from others of that Op; pieces among them have no plain text,
        # but where they leave nothing to decide, the call itself is the same one in all architectures
        known: dict[object, _Counted] = self._known
        key: tuple[object, ...] = (id(call.op), repr(sorted(call.settings.items())), shape)
        if any(_holds_piece(value) for value in call.settings.values()):
            known, key = call.memo.setdefault("counts", {}), (self.outputs, shape)
        if key not in known:
            module = Builder(self.outputs, tuple(self.allow)).operation(call, shape, place)
            after = shape_after(module, shape, place)  # before it is counted: what fails is said here
            own = cost(module, shape)
            known[key] = _Counted(Count(own.parameters, own.macs), after)
        return known[key]


def _holds_piece(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_piece(part) for part in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_piece(part) for part in value)
    return is_piece(value)
