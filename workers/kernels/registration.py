"""register: tells PyTorch which operators have a CUDA implementation here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch

logger = logging.getLogger(__name__)

OLDEST = 8
"""The first compute capability with bfloat16: Ampere."""


@cache
def register() -> bool:
    """Register every implementation that does here what its reference does; says whether all are. Once per process.

    Without a GPU none is, and without a compiler for it none; nor on one without bfloat16 (before compute capability
    8.0), for which the sources do not compile. The log says so.
    """
    if not torch.cuda.is_available():
        return False
    from workers.kernels.compile import NotCompiled, Program, machine_code
    from workers.kernels.self_check import deviations

    major, minor = torch.cuda.get_device_capability()
    try:
        if major < OLDEST:
            raise NotCompiled(f"a GPU of compute capability {OLDEST}.0 is needed, this one has {major}.{minor}")
        machine_code(Program("sum_relu", (("ELEMENT", "bfloat16"), ("COUNT", 2), ("KEEP", 0))), f"sm_{major}{minor}")
    except NotCompiled as reason:
        logger.warning("PyTorch's own operations in place of CUDA kernels: %s", reason)
        return False
    kernels = implementations()
    wrong = deviations(kernels, torch.device("cuda", torch.cuda.current_device()))
    for name, implementation in kernels.items():
        if name in wrong:
            logger.error("the CUDA kernel of nas::%s fails on this GPU and is not used: %s", name, wrong[name])
        else:
            _LIBRARY.impl(name, implementation, "CUDA")  # type: ignore[no-untyped-call]
    return not wrong


def implementations() -> Mapping[str, Callable[..., Any]]:
    """Operator of the namespace ``nas`` -> its CUDA implementation."""
    from workers.kernels.activation_overlap import activation_overlap
    from workers.kernels.batched_mlp import batched_mlp, batched_mlp_backward
    from workers.kernels.depthwise_conv2d import depthwise_conv2d, depthwise_conv2d_backward
    from workers.kernels.sum_relu import sum_relu, sum_relu_backward

    return {
        "activation_overlap": activation_overlap,
        "batched_mlp": batched_mlp,
        "batched_mlp_backward": batched_mlp_backward,
        "depthwise_conv2d": depthwise_conv2d,
        "depthwise_conv2d_backward": depthwise_conv2d_backward,
        "sum_relu": sum_relu,
        "sum_relu_backward": sum_relu_backward,
    }


_LIBRARY = torch.library.Library("nas", "FRAGMENT")  # type: ignore[no-untyped-call]
"""What is registered lives as long as this does."""
