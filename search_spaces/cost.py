"""cost: parameters, multiply-accumulates and activation memory of a network, counted exactly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.network import evaluating


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a network takes, for one example.

    Args:
        parameters: numbers in them, frozen ones too (those of a tensor used twice once); buffers are not counted.
        macs: multiply-accumulates of convolutions and matrix products (linear layers, attention) of one forward pass.
            Biases, normalisation, activations, pooling and sums are not counted.
        activation_bytes: the most bytes that tensors other than parameters and buffers take at once during one forward
            pass in eval mode. A tensor is there from the operation that makes it to the last one that reads it (views
            are one tensor with what they look at); the input counts from the start, the output to the end.
    """

    parameters: int
    macs: int
    activation_bytes: int


def cost(network: nn.Module, input_shape: Sequence[int]) -> Cost:
    """The cost of `network` for one example of `input_shape`, measured on one forward pass of zeros in eval mode.

    The pass really runs, where the network's weights are: that takes milliseconds, allows every kind of module, and
    changes nothing of the network. Attention is computed as matrix products, which are counted, and not by a fused
    kernel that would hide them; the products inside a kernel of one's own are not seen. Every count is of whole
    operations of PyTorch: what a compiler or an inference engine would fuse takes less memory.
    """
    weights = [*network.parameters(), *network.buffers()]
    device = weights[0].device if weights else torch.device("cpu")
    example = torch.zeros(1, *input_shape, device=device)
    counter = FlopCounterMode(display=False, custom_mapping=_RECURRENT)
    with evaluating(network), _whole_operations(), counter, _Recorder() as recorder:
        output = network(example)
    return Cost(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        macs=counter.get_total_flops() // 2,  # the counter takes a multiply-accumulate as two operations
        activation_bytes=_peak_bytes(recorder.operations, weights, example, output),
    )


def _recurrent_flops(
    input_shape: Sequence[int], input_weight: Sequence[int], hidden_weight: Sequence[int], *_: Any, **__: Any
) -> int:
    """Operations of a recurrent layer: two products per step. Shapes: steps x batch x features; gates x features."""
    return 2 * math.prod(input_shape[:-1]) * (math.prod(input_weight) + math.prod(hidden_weight))


_RECURRENT = {torch.ops.aten.mkldnn_rnn_layer: _recurrent_flops}
"""What torch's counter does not know: the LSTM of the CPU is one operation."""


@contextmanager
def _whole_operations() -> Iterator[None]:
    """Inside, torch takes none of its fused paths that hide products, but for the recurrent layer of `_RECURRENT`."""
    with (
        sdpa_kernel(SDPBackend.MATH),
        torch.backends.cudnn.flags(enabled=False),
        torch.enable_grad(),  # layers of `torch.nn.Transformer` fuse themselves when nobody wants gradients
    ):
        yield


@dataclass(frozen=True)
class _Operation:
    reads: tuple[Tensor, ...]
    makes: tuple[Tensor, ...]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's class hook has no types
    """Writes down which tensors each operation reads and makes; holding them keeps their storages distinct."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[_Operation] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations.append(_Operation(tuple(_tensors((args, kwargs or {}))), tuple(_tensors(result))))
        return result


def _peak_bytes(operations: Sequence[_Operation], weights: Sequence[Tensor], example: Tensor, output: Any) -> int:
    """The most bytes of storages that are alive at one operation."""
    ignored = {_storage(tensor) for tensor in weights}
    size: dict[int, int] = {}
    first: dict[int, int] = {}
    last: dict[int, int] = {}

    def touch(tensor: Tensor, time: int) -> None:
        storage = _storage(tensor)
        if storage not in ignored:
            size[storage] = max(size.get(storage, 0), tensor.untyped_storage().nbytes())
            first.setdefault(storage, time)
            last[storage] = time

    touch(example, 0)
    for time, operation in enumerate(operations):
        for tensor in (*operation.reads, *operation.makes):
            touch(tensor, time)
    for tensor in _tensors(output):
        touch(tensor, len(operations))
    change = [0] * (len(operations) + 2)
    for storage, count in size.items():
        change[first[storage]] += count
        change[last[storage] + 1] -= count
    peak = alive = 0
    for delta in change:
        alive += delta
        peak = max(peak, alive)
    return peak


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _storage(tensor: Tensor) -> int:
    identity: int = tensor.untyped_storage()._cdata
    return identity
