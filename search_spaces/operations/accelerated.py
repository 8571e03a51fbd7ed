"""is_available: whether an operator is run by a CUDA kernel of our own.

Lower floors declare operators ``nas::...``; `workers.kernels` registers kernels for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_PLAIN = ContextVar("plain", default=False)


@contextmanager
def plain() -> Iterator[None]:
    """Inside, this thread's networks run PyTorch's operations alone, as they do once they are exported."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def is_available(operator: str) -> bool:
    """Whether a kernel for CUDA is registered, nobody watches PyTorch's operations one by one, and it is not `plain`.

    Without a kernel PyTorch's own operations are quicker than an operator's reference. Whoever counts them (what a
    network costs, how often a rectifier is applied) must see those that the modules are written with, on every device.
    """
    if _PLAIN.get() or torch._C._len_torch_dispatch_stack():
        return False
    return torch._C._dispatch_has_kernel_for_dispatch_key(operator, "CUDA")
