"""overlap_kernel: how many rectifiers treat two examples alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from predictors.zero_cost.activation_overlap import add_overlap
from predictors.zero_cost.batch import Batch
from predictors.zero_cost.error import ProxyError

RECTIFIERS = frozenset(
    {"relu", "leaky_relu", "_prelu_kernel", "rrelu_with_noise", "threshold", "elu", "celu", "gelu", "silu", "mish"}
    | {"softplus", "hardswish", "hardtanh"}
)
"""PyTorch's operations that bend around zero; hardtanh only as ReLU6, from 0 up."""

MOST_UNITS = 2**31 - 1
"""What a count of 32 bits holds."""


@torch.no_grad()
def overlap_kernel(network: nn.Module, batch: Batch) -> tuple[Tensor, int]:
    """The kernel of Hamming overlaps, b x b and float64, and the number of units.

    A unit of an example is on where the input of a rectifier is positive; entry (i, j) counts the units that are both
    on or both off in examples i and j. Rectifiers are seen as operations, so functional ones count like modules.
    Those that are not ReLUs (leaky, GELU, SiLU, ...) count by the sign of their input all the same.
    """
    with _Codes(len(batch)) as codes:
        network(batch.inputs)
    if not codes.units:
        known = ", ".join(sorted(name.strip("_") for name in RECTIFIERS))
        raise ProxyError(f"the network has no rectifier; needed is one of {known}")
    kernel = codes.kernel()
    if (kernel.diagonal() != codes.units).any():
        raise ProxyError("the input of a rectifier is NaN or infinite")
    return kernel, codes.units


class _Codes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's class hook has no types
    """Adds up the kernel of what goes into rectifiers."""

    def __init__(self, examples: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sum = torch.zeros(examples, examples, dtype=torch.float64)
        self.units = 0
        self.counts = torch.zeros(examples, examples, dtype=torch.int32)  # where the network is; not in `sum` yet
        self.counted = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        if name in RECTIFIERS and (name != "hardtanh" or (len(args) > 1 and args[1] == 0)):
            self.add(args[0])
        return func(*args, **(kwargs or {}))

    def add(self, given: Tensor) -> None:
        if len(given) != len(self.sum):
            raise ProxyError(f"a rectifier's input of shape {tuple(given.shape)} has not the batch as its first axis")
        units = given.numel() // len(given)
        if self.counts.device != given.device or self.counted + units > MOST_UNITS:
            self.sum = self.kernel()
            self.counts = torch.zeros_like(self.counts, device=given.device)
            self.counted = 0
        add_overlap(self.counts, given)  # a GPU is not waited for
        self.counted += units
        self.units += units

    def kernel(self) -> Tensor:
        """All that was counted so far, on the CPU; the diagonal lacks what is not finite."""
        return self.sum + self.counts.double().cpu()
