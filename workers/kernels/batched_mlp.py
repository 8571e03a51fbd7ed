"""The CUDA implementation of ``nas::batched_mlp``, which `search_spaces.operations.batched_mlp` declares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.kernels import launch
from workers.kernels.compile import Program

ROWS, COLUMNS = 32, 64
"""A block's tile."""
THREADS = 128
"""Both as in the source."""


def batched_mlp(
    x: Tensor, weight: Tensor, bias: Tensor | None, table: Tensor, rows: int, widest_in: int, widest_out: int
) -> Tensor:
    """See the operator's reference."""
    x, weight = x.contiguous(), weight.contiguous()
    batch = x.shape[1]
    output = x.new_empty(rows, batch)
    bias = None if bias is None else bias.contiguous()
    _launch("batched_mlp_forward", (x, weight, bias, output, table, batch), table, widest_out, batch)
    return output


def batched_mlp_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, table: Tensor, widest_in: int, widest_out: int, asked: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """See the operator's reference."""
    gradient, x, weight = gradient.contiguous(), x.contiguous(), weight.contiguous()
    batch = x.shape[1]
    wants_x, wants_weight, wants_bias = asked
    of_x = torch.zeros_like(x) if wants_x else x.new_empty(0)  # rows that nobody reads get none
    of_weight = torch.empty_like(weight) if wants_weight else x.new_empty(0)
    of_bias = gradient.new_empty(len(gradient)) if wants_bias else x.new_empty(0)
    if wants_x:
        _launch("batched_mlp_input_gradient", (gradient, weight, of_x, table, batch), table, widest_in, batch)
    if wants_weight:
        into = of_bias if wants_bias else None
        arguments = (gradient, x, of_weight, into, table, batch)
        _launch("batched_mlp_weight_gradient", arguments, table, widest_out, widest_in)
    elif wants_bias:
        of_bias = gradient.sum(1)
    return of_x, of_weight, of_bias


def _launch(
    entry: str, arguments: Sequence[Tensor | int | None], table: Tensor, widest_rows: int, widest_columns: int
) -> None:
    """A block for each tile of the widest candidate, for each candidate."""
    tiles = -(-widest_rows // ROWS) * -(-widest_columns // COLUMNS)
    first = arguments[0]
    if tiles and isinstance(first, Tensor):
        launch.launch(
            Program("batched_mlp", (("ELEMENT", launch.ELEMENTS[first.dtype]),)),
            entry,
            grid=(tiles, len(table)),
            block=THREADS,
            arguments=arguments,
            device=first.device,
        )
