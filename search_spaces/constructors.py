"""constructor: the source that makes a `torch.nn` layer anew, for instance ``nn.Conv2d(3, 16, 3, padding=1)``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn


class ExportError(ValueError):
    """A network that cannot be written as plain PyTorch or ONNX; the message names the part and the reason."""


_SIZES = frozenset({"kernel_size", "stride", "padding", "dilation", "output_padding"})
"""Arguments that layers keep as one number per axis; equal numbers are written as one."""

_READ: Mapping[tuple[type[nn.Module], str], Callable[[Any], Any]] = {
    (nn.MultiheadAttention, "bias"): lambda layer: layer.in_proj_bias is not None,
    (nn.MultiheadAttention, "add_bias_kv"): lambda layer: layer.bias_k is not None,
}
"""Arguments that no attribute of their name keeps."""

_NOT_KEPT = frozenset({(nn.PReLU, "init")})
"""Arguments that only say how weights start."""

_RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
_RECURRENT_DEFAULTS: Mapping[str, Any] = {
    "num_layers": 1,
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
    "proj_size": 0,
    "nonlinearity": "tanh",
}
_VARIADIC: Mapping[type[nn.Module], tuple[str, ...]] = {
    nn.LSTM: (*_RECURRENT, "proj_size"),
    nn.GRU: _RECURRENT,
    nn.RNN: (*_RECURRENT, "nonlinearity"),
}
"""Layers whose signature does not name their arguments."""


def is_layer(module: nn.Module) -> bool:
    """Whether `module` is a layer of `torch.nn` itself that stands in a network as a whole."""
    kind = type(module)
    if getattr(nn, kind.__name__, None) is not kind:
        return False
    return kind is nn.MultiheadAttention or (next(module.children(), None) is None and kind not in _CONTAINERS)


_CONTAINERS = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def constructor(layer: nn.Module, name: str) -> str:
    """The source that makes a layer like this one; its weights are another matter. `name` is for messages."""
    kind = type(layer)
    arguments = []
    for argument, default in _arguments(kind):
        value = _value(layer, argument, default, name)
        if default is inspect.Parameter.empty:
            arguments.append(literal(value, name))
        elif value != default:
            arguments.append(f"{argument}={literal(value, name)}")
    floating = next((tensor.dtype for tensor in layer.parameters() if tensor.is_floating_point()), torch.float32)
    if floating != torch.float32:
        arguments.append(f"dtype={floating}")
    return f"nn.{kind.__name__}({', '.join(arguments)})"


def literal(value: Any, name: str) -> str:
    """The source of a constant."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if value is None or value is Ellipsis or isinstance(value, bool | int | float | str):
        return "..." if value is Ellipsis else repr(value)
    if isinstance(value, torch.dtype | torch.memory_format | torch.layout):
        return repr(value)
    if isinstance(value, torch.device):
        return f'torch.device("{value}")'
    if isinstance(value, tuple):
        return f"({', '.join(literal(part, name) for part in value)}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(literal(part, name) for part in value)}]"
    raise ExportError(f"{name}: a value of type {type(value).__name__} cannot be written as source: {value!r}")


def _arguments(kind: type[nn.Module]) -> Sequence[tuple[str, Any]]:
    """The constructor's arguments and their defaults, but for those that only say how and where weights start."""
    if kind in _VARIADIC:
        return [(argument, _RECURRENT_DEFAULTS.get(argument, inspect.Parameter.empty)) for argument in _VARIADIC[kind]]
    return [
        (parameter.name, parameter.default)
        for parameter in inspect.signature(kind).parameters.values()
        if parameter.name not in ("device", "dtype")
        and not parameter.name.startswith("_")
        and (kind, parameter.name) not in _NOT_KEPT
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def _value(layer: nn.Module, argument: str, default: Any, name: str) -> Any:
    reader = _READ.get((type(layer), argument))
    if reader is not None:
        return reader(layer)
    if not hasattr(layer, argument):
        if default is None:
            return None
        raise ExportError(f"{name}: {type(layer).__name__} does not keep its argument {argument!r}")
    value = getattr(layer, argument)
    if argument == "bias" and not isinstance(value, bool):
        return value is not None
    if argument in _SIZES and isinstance(value, tuple) and value and all(size == value[0] for size in value):
        return value[0]
    return tuple(value) if isinstance(value, torch.Size) else value
