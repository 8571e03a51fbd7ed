"""One dense layer of many candidates at once: a kernel of our own on a GPU that has it, products by shape elsewhere.

Candidates differ in their widths, and each has its own examples. What goes into a layer is one tensor of
``features x batch``, in which every candidate has rows of its own; so is what comes out, and all weights are one row of
numbers. b: examples of each candidate; Candidate c of the group computes ``W_c X_c + bias_c``, where W_c is
``outputs x inputs`` as in `torch.nn.Linear`, X_c its rows of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from search_spaces.operations.accelerated import is_available

KERNEL_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one candidate, or `count` of equal shape that lie one behind the other, has in a layer."""

    #: its first row of the input, and how many there are
    reads: int
    inputs: int
    #: its first row of the output, and how many there are
    writes: int
    outputs: int
    #: where its weight begins
    weight: int
    count: int = 1


@dataclass(frozen=True)
class Grouping:
    """The parts of all candidates in a layer.

    Args:
        parts: one for each candidate. Their outputs lie one behind the other in this order, and so do their weights;
            their inputs lie anywhere, and no two of them share a row.
    """

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a grouping needs at least one part, got none")
        writes = weight = 0
        for part in self.parts:
            if (part.writes, part.weight) != (writes, weight):
                raise ValueError(
                    f"outputs and weights must lie one behind the other: expected are {writes} and {weight}, got {part}"
                )
            writes, weight = writes + part.outputs, weight + part.outputs * part.inputs

    @cached_property
    def rows(self) -> int:
        """Rows of the output."""
        return sum(part.outputs for part in self.parts)

    @cached_property
    def widest(self) -> tuple[int, int]:
        """The most inputs, and the most outputs, of any part."""
        return max(part.inputs for part in self.parts), max(part.outputs for part in self.parts)

    @cached_property
    def runs(self) -> Runs:
        """Neighbours of equal shape put together."""
        return Runs(self.parts)

    @cached_property
    def _tables(self) -> dict[torch.device, Tensor]:
        return {}

    def table(self, device: torch.device) -> Tensor:
        """The numbers of the parts on a device: ``candidates x 5``, int64, in the order of the fields of `Part`."""
        if device not in self._tables:
            numbers = [astuple(part)[:5] for part in self.parts]
            self._tables[device] = torch.tensor(numbers, dtype=torch.int64, device=device)
        return self._tables[device]


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor | None, grouping: Grouping) -> Tensor:
    """Each candidate's dense layer, all in one product where a kernel for it is.

    Args:
        x: ``features x b``.
        weight: all weights, one behind the other.
        bias: one number for each row of the output; None for none.
        grouping: who reads and writes what.

    Returns:
        ``grouping.rows x b``; under autocast in its precision, as `torch.nn.functional.linear`.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if x.is_cuda and is_available("nas::batched_mlp") and x.dtype in KERNEL_TYPES:
        output: Tensor = _operator(x, weight, bias, grouping.table(x.device), grouping.rows, *grouping.widest)
        return output
    by_shape: Tensor = _ByShape.apply(x, weight, bias, grouping)  # type: ignore[no-untyped-call]  # torch's own has no types
    return by_shape


class Runs:
    """Parts put together to products of equal shape, and how the tensors are cut for them: in as few calls as can be.

    Args:
        parts: of a `Grouping`.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = _merged(parts)
        self._written = [part.count * part.outputs for part in self.parts]
        self._weights = [part.count * part.outputs * part.inputs for part in self.parts]
        self._read: list[int] = []
        self._index: dict[int, int] = {}
        at = 0
        for part in sorted(self.parts, key=lambda part: part.reads):
            if part.reads > at:
                self._read.append(part.reads - at)  # rows that nobody reads
            self._index[part.reads] = len(self._read)
            self._read.append(part.count * part.inputs)
            at = part.reads + part.count * part.inputs
        self._end = at

    def weights(self, flat: Tensor) -> list[Tensor]:
        """Views ``count x outputs x inputs``."""
        pieces = torch.split(flat, self._weights)
        return [
            piece.view(part.count, part.outputs, part.inputs) for part, piece in zip(self.parts, pieces, strict=True)
        ]

    def read(self, rows: Tensor) -> list[Tensor]:
        """Views ``count x inputs x b``."""
        rest = len(rows) - self._end
        pieces = torch.split(rows, [*self._read, rest] if rest else self._read)
        return [pieces[self._index[part.reads]].view(part.count, part.inputs, rows.shape[1]) for part in self.parts]

    def written(self, rows: Tensor) -> list[Tensor]:
        """Views ``count x outputs x b``."""
        pieces = torch.split(rows, self._written)
        return [
            piece.view(part.count, part.outputs, rows.shape[1]) for part, piece in zip(self.parts, pieces, strict=True)
        ]


def _merged(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Parts of equal shape whose inputs lie one behind the other, as one part."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if (
            last is not None
            and (part.inputs, part.outputs) == (last.inputs, last.outputs)
            and part.reads == last.reads + last.count * last.inputs
        ):
            found[-1] = replace(last, count=last.count + 1)
        else:
            found.append(part)
    return tuple(found)


def _products(x: Tensor, weight: Tensor, bias: Tensor | None, runs: Runs, rows: int) -> Tensor:
    """The reference: one batched product for each run."""
    x = x.contiguous()
    output = x.new_empty(rows, x.shape[1])
    into, weights, given = runs.written(output), runs.weights(weight.contiguous()), runs.read(x)
    if bias is None:
        for place, left, right in zip(into, weights, given, strict=True):
            torch.bmm(left, right, out=place)
    else:
        for place, more, left, right in zip(into, runs.written(bias[:, None]), weights, given, strict=True):
            torch.baddbmm(more, left, right, out=place)
    return output


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, runs: Runs, asked: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """The reference: the gradients of x, weight and bias; empty where they are not asked for."""
    gradient, x = gradient.contiguous(), x.contiguous()
    of_x, of_weight, of_bias = asked
    given = runs.written(gradient)
    first, second = (x.new_zeros(x.shape) if of_x else x.new_empty(0)), x.new_empty(len(weight) if of_weight else 0)
    if of_x:  # rows that nobody reads get none
        for place, left, right in zip(runs.read(first), runs.weights(weight.contiguous()), given, strict=True):
            torch.bmm(left.mT, right, out=place)
    if of_weight:
        for place, left, right in zip(runs.weights(second), given, runs.read(x), strict=True):
            torch.bmm(left, right.mT, out=place)
    return first, second, gradient.sum(1) if of_bias else x.new_empty(0)


class _ByShape(torch.autograd.Function):
    """The reference without the operator around it, whose dispatch costs more than small products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, grouping: Grouping) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.grouping = grouping
        return _products(x, weight, bias, grouping.runs, grouping.rows)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        asked = ctx.needs_input_grad[:3]
        found = _gradients(gradient, x, weight, ctx.grouping.runs, asked)
        first, second, third = (value if wanted else None for value, wanted in zip(found, asked, strict=True))
        return first, second, third, None


@cache
def _runs_in(table: tuple[tuple[int, ...], ...]) -> Runs:
    names = ("reads", "inputs", "writes", "outputs", "weight")
    return Runs([Part(**dict(zip(names, row, strict=True))) for row in table])


def _runs(table: Tensor) -> Runs:
    return _runs_in(tuple(map(tuple, table.tolist())))


@torch.library.custom_op("nas::batched_mlp", mutates_args=())
def _operator(
    x: Tensor, weight: Tensor, bias: Tensor | None, table: Tensor, rows: int, widest_in: int, widest_out: int
) -> Tensor:
    """The reference. `table` and the numbers after it are those of a `Grouping`."""
    return _products(x, weight, bias, _runs(table), rows)


@_operator.register_fake
def _shape(
    x: Tensor, weight: Tensor, bias: Tensor | None, table: Tensor, rows: int, widest_in: int, widest_out: int
) -> Tensor:
    return x.new_empty(rows, x.shape[1])


@torch.library.custom_op("nas::batched_mlp_backward", mutates_args=())
def _backward_operator(
    gradient: Tensor, x: Tensor, weight: Tensor, table: Tensor, widest_in: int, widest_out: int, asked: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """The reference: the gradients of x, weight and bias; empty where they are not asked for."""
    of_x, of_weight, of_bias = asked
    return _gradients(gradient, x, weight, _runs(table), (of_x, of_weight, of_bias))


@_backward_operator.register_fake
def _backward_shapes(
    gradient: Tensor, x: Tensor, weight: Tensor, table: Tensor, widest_in: int, widest_out: int, asked: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    of_x, of_weight, of_bias = asked
    return (
        torch.empty_like(x, memory_format=torch.contiguous_format) if of_x else x.new_empty(0),
        torch.empty_like(weight, memory_format=torch.contiguous_format) if of_weight else x.new_empty(0),
        gradient.new_empty(len(gradient)) if of_bias else x.new_empty(0),
    )


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, table, _, *ctx.widest = inputs
    ctx.save_for_backward(x, weight, table)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, table = ctx.saved_tensors
    asked = list(ctx.needs_input_grad[:3])
    found = _backward_operator(gradient, x, weight, table, *ctx.widest, asked)
    return *(value if wanted else None for value, wanted in zip(found, asked, strict=True)), None, None, None, None


_operator.register_autograd(_backward, setup_context=_remember)
