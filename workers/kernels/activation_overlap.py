"""The CUDA implementation of ``nas::activation_overlap``, which `predictors.zero_cost.activation_overlap` declares."""

from __future__ import annotations

import torch
from torch import Tensor

from workers.kernels import launch
from workers.kernels.compile import Program

GROUP = 64
"""Examples of a group; the source explains the pairs of them."""
THREADS = 512
VECTOR_BYTES = 16


def activation_overlap(total: Tensor, given: Tensor, *, bits: bool = True) -> None:
    """Add a layer's overlap to `total`.

    Args:
        total: b x b, int32.
        given: b x ...; float32, bfloat16 or float16. Doubles are counted by their float32 rounding.
        bits: products of bits; else of bytes, to measure one beside the other.
    """
    if given.dtype not in launch.ELEMENTS or given.dtype == torch.float64:
        given = given.float()
    examples = len(given)
    if not given.numel():
        return
    units = given.numel() // examples
    if total.shape != (examples, examples) or total.dtype != torch.int32 or not total.is_contiguous():
        raise ValueError(
            f"the overlap of {examples} examples needs a contiguous int32 total of {examples} x {examples}, "
            f"got {total.dtype} of {tuple(total.shape)}"
        )
    if units >= 2**31:
        raise ValueError(f"a layer must have less than 2**31 units for an example, got {units}")
    given = _rows(given)
    wide = given.data_ptr() % VECTOR_BYTES == 0 and units * given.element_size() % VECTOR_BYTES == 0
    program = Program(
        "activation_overlap", (("ELEMENT", launch.ELEMENTS[given.dtype]), ("BITS", int(bits)), ("WIDE", int(wide)))
    )
    tile = 32 * VECTOR_BYTES // given.element_size()
    tiles = -(-units // tile)
    groups = max(2, -(-examples // GROUP))
    pairs = groups * (groups - 1) // 2
    blocks = min(tiles, -(-launch.multiprocessors(given.device) // pairs))
    launch.launch(
        program,
        "activation_overlap",
        grid=(blocks, pairs),
        block=THREADS,
        arguments=(given, total, examples, units),
        device=given.device,
    )


def _rows(given: Tensor) -> Tensor:
    """The same, an example's units side by side in whatever order, which is of no matter to their overlap."""
    dense = given.is_contiguous() or (given.dim() == 4 and given.is_contiguous(memory_format=torch.channels_last))
    return given if dense else given.contiguous()
