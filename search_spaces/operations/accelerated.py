"""is_available: whether an operator is run by a CUDA kernel of our own.

Lower floors declare operators ``nas::...``; `workers.kernels` registers kernels for them.
"""

from __future__ import annotations

import torch


def is_available(operator: str) -> bool:
    """Whether a kernel for CUDA is registered, and nobody watches PyTorch's operations one by one.

    Without a kernel PyTorch's own operations are quicker than an operator's reference. Whoever counts them (what a
    network costs, how often a rectifier is applied) must see those that the modules are written with, on every device.
    """
    return torch._C._dispatch_has_kernel_for_dispatch_key(operator, "CUDA") and not torch._C._len_torch_dispatch_stack()
