"""source: a network as the text of a plain PyTorch module, which needs none of the code it was made with."""

from __future__ import annotations

import builtins
import keyword
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from search_spaces.constructors import ExportError, constructor, is_layer, literal

_INFIX: Mapping[Callable[..., Any], str] = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    operator.floordiv: "//",
    operator.mod: "%",
    operator.pow: "**",
    operator.matmul: "@",
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
    operator.ne: "!=",
    operator.and_: "&",
    operator.or_: "|",
}

_HOMES: Mapping[str, ModuleType] = {"torch": torch, "F": functional, "math": math, "operator": operator}
"""Where a called function may live, under the name it has in the source."""


@dataclass(frozen=True)
class Source:
    """The text of a module, and the weights it loads.

    Args:
        text: defines ``class Network(nn.Module)`` and ``load(folder)``.
        weights: name in the text's state dict -> tensor.
    """

    text: str
    weights: Mapping[str, Tensor]


def source(network: nn.Module, input_shape: Sequence[int]) -> Source:
    """The source of `network` as it computes in eval mode.

    Its forward pass is traced symbolically, layers of `torch.nn` standing as wholes; what happens between them is
    written down as calls of PyTorch functions, and what the output does not need is left out.

    Args:
        network: in eval mode, on the CPU; tracing may add attributes to it, so hand over a copy.
        input_shape: of one example; for the text's docstring only.

    Raises:
        ExportError: it has more than one input or output, its control flow depends on data, or it calls what is not
            part of PyTorch.
    """
    graph = _trace(network)
    for node in reversed(graph.nodes):
        if not node.users and not _has_effect(node, network):
            graph.erase_node(node)
    return _Writer(network).write(graph, input_shape)


class _Tracer(fx.Tracer):
    """Knows in which module it is, for the message."""

    def __init__(self) -> None:
        super().__init__()
        self.place = ""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_layer(m)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        outer, self.place = self.place, f"{self.path_of_module(m)} ({type(m).__qualname__})"
        result = super().call_module(m, forward, args, kwargs)
        self.place = outer  # not if it raised: then the place is what the message needs
        return result


def _trace(network: nn.Module) -> fx.Graph:
    tracer = _Tracer()
    tracer.place = type(network).__qualname__
    try:
        return tracer.trace(network)
    except Exception as error:  # a module is anybody's code and may raise anything when it meets a symbolic value
        raise ExportError(
            f"{tracer.place} cannot be traced: {type(error).__name__}: {error}. A network that is exported must not "
            "branch or loop on the values or sizes of tensors, nor assign to parts of them"
        ) from error


def _has_effect(node: fx.Node, network: nn.Module) -> bool:
    """Whether dropping a node whose result nobody reads could change what others compute."""
    if node.op in ("placeholder", "output") or node.kwargs.get("inplace") or "out" in node.kwargs:
        return True
    if node.op == "call_module":
        return bool(getattr(network.get_submodule(str(node.target)), "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op in ("call_function", "call_method") and (name.endswith("_") or name in ("setitem", "_assert"))


@dataclass
class _Writer:
    network: nn.Module
    attributes: dict[str, str] = field(default_factory=dict)  # path of a layer or tensor -> its name in the text
    declarations: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    variables: dict[fx.Node, str] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)  # of `_HOMES`, those the text uses

    def write(self, graph: fx.Graph, input_shape: Sequence[int]) -> Source:
        """Go through the nodes in order, then put the text together."""
        last_reader = {read: node for node in graph.nodes for read in node.all_input_nodes}
        free: list[str] = []
        made = 0
        for node in graph.nodes:
            if node.op == "placeholder" and self.variables:
                raise ExportError(f"the network takes more than one input: {node.target!r}")
            if node.op == "output":
                if not isinstance(node.args[0], fx.Node):
                    raise ExportError(f"the network must give one tensor, got {node.args[0]!r}")
                self.statements.append(f"return {self.argument(node.args[0], node)}")
                continue
            expression = self.expression(node)
            # A variable is used again as soon as nobody reads it any more, so a chain reads "x = self.layer(x)" and
            # each value is freed after its last use.
            free = [self.variables[read] for read in node.all_input_nodes if last_reader[read] is node] + free
            if node.op != "placeholder" and not node.users:
                self.statements.append(expression)
                continue
            if not free:
                free.append(f"x{made}" if made else "x")
                made += 1
            self.variables[node] = free.pop(0)
            if node.op != "placeholder":
                self.statements.append(f"{self.variables[node]} = {expression}")
        return Source(self.text(input_shape), self.weights)

    def expression(self, node: fx.Node) -> str:
        """The right-hand side of a node's statement."""
        if node.op == "placeholder":
            return ""
        if node.op == "call_module":
            return f"self.{self.layer(str(node.target))}({self.arguments(node.args, node)})"
        if node.op == "get_attr":
            return f"self.{self.tensor(str(node.target))}"
        if node.op == "call_method":
            return f"{self.argument(node.args[0], node)}.{node.target}({self.arguments(node.args[1:], node)})"
        function: Any = node.target
        values = [self.argument(value, node) for value in node.args]
        if function in _INFIX and not node.kwargs:
            left, right = (f"({value})" if value.startswith("-") else value for value in values)
            return f"{left} {_INFIX[function]} {right}"
        if function is operator.neg:
            return f"-{values[0]}"
        if function is operator.getitem:
            return f"{values[0]}[{values[1]}]"
        if function is builtins.getattr and len(node.args) == 2:
            return f"{values[0]}.{node.args[1]}"
        return f"{self.function(function)}({self.arguments(node.args, node)})"

    def function(self, function: Any) -> str:
        """The name under which the text reaches a function."""
        for home, module in _HOMES.items():
            for name in (getattr(function, "__name__", ""), *vars(module)):
                if name.isidentifier() and getattr(module, name, None) is function:
                    self.modules.add(home)
                    return f"{home}.{name}"
        raise ExportError(f"the network calls {function}, which is no function of torch or torch.nn.functional")

    def arguments(self, positional: Sequence[Any], node: fx.Node) -> str:
        """What stands between the parentheses of a call."""
        named = [f"{name}={self.argument(value, node)}" for name, value in node.kwargs.items()]
        return ", ".join([self.argument(value, node) for value in positional] + named)

    def argument(self, value: Any, node: fx.Node) -> str:
        """The source of one argument: a variable, a constant, or a tuple, list, mapping or slice of them."""
        if isinstance(value, fx.Node):
            return self.variables[value]
        if isinstance(value, tuple):
            return f"({', '.join(self.argument(part, node) for part in value)}{',' if len(value) == 1 else ''})"
        if isinstance(value, list):
            return f"[{', '.join(self.argument(part, node) for part in value)}]"
        if isinstance(value, dict):
            parts = (f"{literal(key, node.name)}: {self.argument(part, node)}" for key, part in value.items())
            return f"{{{', '.join(parts)}}}"
        if isinstance(value, slice):
            ends = (value.start, value.stop, value.step)
            return f"slice({', '.join(self.argument(end, node) for end in ends)})"
        text = literal(value, node.name)
        if text.startswith("torch."):
            self.modules.add("torch")
        return text

    def layer(self, path: str) -> str:
        """The attribute of a layer, declared when it is first used."""
        if path not in self.attributes:
            name = self.attributes[path] = self.attribute(path)
            layer = self.network.get_submodule(path)
            made = constructor(layer, path)
            if "torch." in made:
                self.modules.add("torch")
            self.declarations.append(f"self.{name} = {made}")
            self.weights |= {f"{name}.{key}": tensor for key, tensor in layer.state_dict().items()}
        return self.attributes[path]

    def tensor(self, path: str) -> str:
        """The attribute of a parameter, buffer or constant that the forward pass reads by itself."""
        if path not in self.attributes:
            owner, _, last = path.rpartition(".")
            tensor = getattr(self.network.get_submodule(owner), last)
            if not isinstance(tensor, Tensor):
                raise ExportError(f"{path}: the forward pass reads a {type(tensor).__name__}, which is no tensor")
            name = self.attributes[path] = self.attribute(path)
            self.modules.add("torch")
            empty = f"torch.empty({tuple(tensor.shape)}, dtype={tensor.dtype})"
            if isinstance(tensor, nn.Parameter):
                self.declarations.append(f"self.{name} = nn.Parameter({empty})")
            else:
                self.declarations.append(f'self.register_buffer("{name}", {empty})')
            self.weights[name] = tensor
        return self.attributes[path]

    def attribute(self, path: str) -> str:
        """A free attribute for what stands at `path`: the path without what all share, in one word."""
        name = re.sub(r"\W", "_", path.removeprefix("operations."))
        if name[0].isdigit():
            name = f"part_{name}"
        while name in self.attributes.values() or keyword.iskeyword(name) or hasattr(nn.Module, name):
            name += "_"
        return name

    def text(self, input_shape: Sequence[int]) -> str:
        """The whole file."""
        shape = " x ".join(["batch", *map(str, input_shape)])
        lines = [
            f'"""A network in plain PyTorch; its weights are in weights.safetensors. Input: {shape}, float32."""',
            "",
        ]
        lines += [f"import {name}" for name in ("math", "operator") if name in self.modules]
        lines += ["from pathlib import Path", ""]
        lines += ["import torch"] if "torch" in self.modules else []
        lines += ["from safetensors.torch import load_file", "from torch import nn"]
        lines += ["from torch.nn import functional as F"] if "F" in self.modules else []
        lines += ["", "", "class Network(nn.Module):", "    def __init__(self):", "        super().__init__()"]
        lines += [f"        {declaration}" for declaration in self.declarations]
        lines += ["", "    def forward(self, x):"]
        lines += [f"        {statement}" for statement in self.statements]
        lines += ["", "", "def load(folder=Path(__file__).parent):"]
        lines += ['    """The network with the weights of a folder, in eval mode."""', "    network = Network()"]
        lines += ['    network.load_state_dict(load_file(Path(folder) / "weights.safetensors"))']
        return "\n".join([*lines, "    return network.eval()", ""])
