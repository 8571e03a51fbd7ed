"""Which operators of PyTorch a network applies, and to what: read on the meta device, where nothing is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from search_spaces.network import evaluating
from workers.measure import PRECISIONS


class UnreadableNetwork(ValueError):
    """A network whose operators cannot be told without computing; the message says why."""


class Pool:
    """Tensors of zeros on a device, one for each shape, strides and type: a network's own would not all fit at once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._made: dict[str, Tensor] = {}

    def like(self, value: Tensor) -> Tensor:
        """The one like a tensor of the meta device."""
        name = _text(value)
        if name not in self._made:
            made = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=self.device)
            self._made[name] = made.zero_()
        return self._made[name]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One call of an operator, as far as its duration depends on it.

    Args:
        signature: the operator, the shape, strides and type of each tensor, and all other arguments.
        kind: the operator; of a convolution also its window and whether it is grouped.
        macs: multiply-accumulates; 0 for all but convolutions and matrix products.
        bytes: of the tensors that it reads and makes.
        prepared: takes its arguments from a pool, where zeros of each kind are made once, and returns a function that
            calls it once.
    """

    signature: str
    kind: str
    macs: int
    bytes: int
    prepared: Callable[[Pool], Callable[[], object]] = field(repr=False, compare=False)


class OperatorReader:
    """Reads networks; what an operator gives is remembered, as finding it out takes longer than computing it."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Operator, Any]] = {}

    def read(
        self, network: nn.Module, input_shape: Sequence[int], *, batch_size: int = 1, precision: str = "float32"
    ) -> list[Operator]:
        """The operators of one forward pass in evaluation mode, in order; views, which move no data, are left out.

        The network itself is neither moved nor run.

        Args:
            network: on any device.
            input_shape: of one input, without the batch.
            batch_size: inputs per pass.
            precision: a name in `PRECISIONS`, of the weights and the inputs.

        Raises:
            UnreadableNetwork: the network needs the values of tensors to know what to do.
        """
        dtype = PRECISIONS[precision]
        shadows = {
            name: value.detach().to("meta", dtype if value.is_floating_point() else value.dtype)
            for name, value in (*network.named_parameters(), *network.named_buffers())
        }
        example = torch.zeros(batch_size, *input_shape, device="meta", dtype=dtype)
        recorder = _Recorder(self._known)
        try:
            with evaluating(network), recorder:
                functional_call(network, shadows, (example,))
        except Exception as error:  # a module is anybody's code and may raise anything where there are no values
            raise UnreadableNetwork(
                f"the operators of this network cannot be read on the meta device: {type(error).__name__}: {error}; "
                'measure it: latency_source = "measured"'
            ) from error
        return recorder.operators


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's class hook has no types
    def __init__(self, known: dict[str, tuple[Operator, Any]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = known
        self.operators: list[Operator] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func.is_view:
            return func(*args, **kwargs)
        signature = f"{func}({', '.join(_written((args, kwargs)))})"
        if signature in self.known:
            operator, made = self.known[signature]
            self.operators.append(operator)
            return tree_map(_anew, made)
        result = func(*args, **kwargs)
        operator = Operator(
            signature=signature,
            kind=_kind(func, args),
            macs=_macs(func, args, kwargs, result),
            bytes=sum(_bytes(tensor) for tensor in _tensors((args, kwargs, result))),
            prepared=_Prepared(func, args, kwargs),
        )
        self.operators.append(operator)
        if not func._schema.is_mutable:  # else what it gives is one of its arguments, which is not to be made anew
            self.known[signature] = operator, result
        return result


@dataclass(frozen=True)
class _Prepared:
    """Holds meta tensors only: shapes, no memory."""

    func: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __call__(self, pool: Pool) -> Callable[[], object]:
        def there(value: Any) -> Any:
            if isinstance(value, Tensor):
                return pool.like(value)
            return pool.device if isinstance(value, torch.device) else value

        args, kwargs = tree_map(there, (self.args, dict(self.kwargs)))
        return lambda: self.func(*args, **kwargs)


def _anew(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def _written(value: Any) -> Iterator[str]:
    """The arguments as text; devices are left out, as nothing is ever on any other than the one meant."""
    args, kwargs = value
    for argument in args:
        yield _text(argument)
    for name, argument in kwargs.items():
        if not isinstance(argument, torch.device):
            yield f"{name}={_text(argument)}"


def _text(value: Any) -> str:
    if isinstance(value, Tensor):
        shape = f"{str(value.dtype).removeprefix('torch.')}[{','.join(map(str, value.shape))}]"
        return shape if value.is_contiguous() else f"{shape}/{','.join(map(str, value.stride()))}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    return repr(value)


def _kind(func: Any, args: tuple[Any, ...]) -> str:
    name = str(func._overloadpacket)
    if func._overloadpacket is not torch.ops.aten.convolution:
        return name
    grouped = " grouped" if args[8] > 1 else ""
    return f"{name} {'x'.join(map(str, args[1].shape[2:]))}{grouped}"


def _macs(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> int:
    count = flop_registry.get(func._overloadpacket)
    return 0 if count is None else int(count(*args, **kwargs, out_val=result)) // 2


def _bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * tensor.element_size()


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
