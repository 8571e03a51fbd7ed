"""GraphNetwork: the torch module of a graph of pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search_spaces.graph import Graph
from search_spaces.operations.convolution import ReluConvBatchNorm
from search_spaces.operations.sum_relu import is_accelerated, is_observed, sum_and_relu, sum_relu


@dataclass(frozen=True, kw_only=True)
class Step:
    """One value that the forward pass computes.

    Args:
        kind: "op", "sum" or "concat".
        operation: name of the module of an "op", else "".
        inputs: the values it reads.
        value: the value it gives.
        expired: the values nobody reads afterwards.
        rectifiers: of a "sum", the modules that begin with its ReLU.
        needed: of a "sum", whether anybody reads it but those.
    """

    kind: str
    operation: str
    inputs: tuple[int, ...]
    value: int
    expired: tuple[int, ...]
    rectifiers: tuple[str, ...] = ()
    needed: bool = True


class GraphNetwork(nn.Module):
    """Applies the nodes of a graph one after the other, and lets go of each value after its last use.

    The plan is fixed when the network is made; the forward pass depends on nothing but its input and the modules, so it
    can be traced, compiled, exported and captured.

    Args:
        graph: nodes in topological order.
        operations: the module of each node that is an "op", by the node's index.
    """

    def __init__(self, graph: Graph, operations: Mapping[int, nn.Module]) -> None:
        super().__init__()
        names = module_names(graph.nodes[index].name for index in operations)
        index_name = dict(zip(operations, names, strict=True))
        self.operations = nn.ModuleDict({index_name[index]: module for index, module in operations.items()})
        rectifiers = {index for index, module in operations.items() if isinstance(module, ReluConvBatchNorm)}
        self.plan = _plan(graph, index_name, rectifiers)
        self.output = graph.output

    def forward(self, x: Tensor) -> Tensor:
        """``batch x`` the input shape to ``batch x`` the output shape."""
        values = {0: x}
        rectified: dict[int, Tensor] = {}  # the ReLU of a sum, where that was made together with it
        for step in self.plan:
            if step.kind == "op":
                module, read = self.operations[step.operation], step.inputs[0]
                if read in rectified and isinstance(module, ReluConvBatchNorm):
                    values[step.value] = module(rectified[read], rectified=True)
                else:
                    values[step.value] = module(values[read])
            else:
                inputs = [values[index] for index in step.inputs]
                if step.rectifiers and is_accelerated(inputs) and not self._is_observed(step.rectifiers):
                    if step.needed:
                        values[step.value], rectified[step.value] = sum_and_relu(inputs)
                    else:
                        rectified[step.value] = sum_relu(inputs)
                else:
                    values[step.value] = combine(step.kind, inputs)
            for index in step.expired:
                values.pop(index, None)
                rectified.pop(index, None)
        return values[self.output]

    def _is_observed(self, operations: Sequence[str]) -> bool:
        return is_observed(*(self.operations[name] for name in operations))


def combine(kind: str, values: Sequence[Tensor]) -> Tensor:
    """The "sum" of equal shapes from left to right, or the "concat" along the channels (the axis after the batch)."""
    if kind == "concat":
        return values[0] if len(values) == 1 else torch.cat(list(values), dim=1)
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def module_names(places: Iterator[str]) -> list[str]:
    """Distinct names of modules for distinct places: ``stages/0/cell/0->1`` becomes ``stages_0_cell_0_to_1``."""
    taken: set[str] = set()
    names = []
    for place in places:
        name = re.sub(r"\W", "_", place.replace("->", "_to_"))
        while name in taken or hasattr(nn.ModuleDict, name):
            name += "_"
        taken.add(name)
        names.append(name)
    return names


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Inside, every module is in eval mode and no gradient is recorded; afterwards each is in the mode it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _plan(graph: Graph, index_name: Mapping[int, str], rectifiers: Set[int]) -> tuple[Step, ...]:
    last_use = {index: index for index in range(len(graph.nodes))}  # a value nobody reads expires at once
    rectified: dict[int, list[str]] = {}
    needed = {graph.output}
    for index, node in enumerate(graph.nodes):
        for read in node.inputs:
            last_use[read] = index
            if index in rectifiers and graph.nodes[read].kind == "sum":
                rectified.setdefault(read, []).append(index_name[index])
            else:
                needed.add(read)
    last_use[graph.output] = len(graph.nodes)
    return tuple(
        Step(
            kind=node.kind,
            operation=index_name.get(index, ""),
            inputs=node.inputs,
            value=index,
            expired=tuple(read for read, last in last_use.items() if last == index),
            rectifiers=tuple(rectified.get(index, ())),
            needed=index in needed,
        )
        for index, node in enumerate(graph.nodes)
        if node.kind != "input"
    )
