"""Batch: what a network is scored on, and the seam that every proxy fills."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn

from predictors.zero_cost.error import ProxyError

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) -> their mean loss, for instance `torch.nn.functional.cross_entropy`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Everything a score depends on beside the network and the loss.

    Args:
        inputs: b x input shape, finite; normalised as for training.
        targets: b class numbers, or b x k values.
        seed: of what a proxy draws itself (other weights, directions).
    """

    inputs: Tensor
    targets: Tensor
    seed: int = 0

    def __post_init__(self) -> None:
        if self.inputs.dim() < 2 or not len(self.inputs):
            raise ProxyError(f"a batch needs inputs of b x input shape, b at least 1, got {tuple(self.inputs.shape)}")
        if len(self.inputs) != len(self.targets):
            raise ProxyError(f"a batch needs as many targets as inputs, got {len(self.targets)} and {len(self.inputs)}")
        if not torch.isfinite(self.inputs).all():
            raise ProxyError("the inputs of a batch must be finite; there are NaN or infinite ones")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def device(self) -> torch.device:
        """Where the inputs are."""
        return self.inputs.device

    def to(self, device: torch.device | str) -> Batch:
        """The same batch elsewhere."""
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device))

    def part(self, start: int, end: int) -> Batch:
        """The examples from `start` up to, not including, `end`."""
        return replace(self, inputs=self.inputs[start:end], targets=self.targets[start:end])

    def generator(self) -> torch.Generator:
        """A generator on the CPU that starts from the seed; what it draws is the same on every device."""
        return torch.Generator().manual_seed(self.seed)


class Proxy(Protocol):
    """Scores an untrained network; larger is better. See the package's docstring for what all of them promise."""

    def __call__(self, network: nn.Module, batch: Batch, loss: Loss) -> float:
        """The score, finite or minus infinity; `ProxyError` where there is none."""
        ...


def gaussian_batch(input_shape: Sequence[int], outputs: int, *, examples: int = 64, seed: int = 0) -> Batch:
    """Standard normal inputs with classes drawn uniformly: a batch for when there is no data.

    Args:
        input_shape: of one example.
        outputs: how many classes.
        examples: how many.
        seed: of inputs and classes, and of the batch.
    """
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        inputs=torch.randn(examples, *input_shape, generator=generator),
        targets=torch.randint(outputs, (examples,), generator=generator),
        seed=seed,
    )
