"""FiniteWatch: finds out that a loss is lost while its epoch still runs, without waiting for the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOOK_EVERY = 64
"""Steps between two looks; a sum that is NaN or infinite stays so, nothing is missed."""


class NanLoss(FloatingPointError):
    """The loss became NaN or infinite."""


def check_finite(train_loss: float, validation_loss: float, epoch: int, epochs: int) -> None:
    """Raise `NanLoss` if what an epoch led to is lost.

    Args:
        train_loss: the mean over the epoch.
        validation_loss: after it.
        epoch: how many are done.
        epochs: of how many.
    """
    for name, value in (("training", train_loss), ("validation", validation_loss)):
        if not math.isfinite(value):
            raise NanLoss(f"the {name} loss is {value} after epoch {epoch} of {epochs}")


class FiniteWatch:
    """Looks at the running sum of losses now and then.

    On a GPU a look takes a copy that arrives some time later, and reads the one that was asked for before, if it has
    arrived: nobody waits.

    Args:
        total: the sum; stays where it is.
    """

    def __init__(self, total: Tensor) -> None:
        self._total = total
        self._seen = torch.zeros((), pin_memory=total.is_cuda)
        self._arrival: torch.cuda.Event | None = None

    def look(self, epoch: int, step: int) -> None:
        """To be called after every step; raises `NanLoss` if the losses are seen to be lost.

        Args:
            epoch: done before.
            step: done in this epoch.
        """
        if step % LOOK_EVERY:
            return
        if not self._total.is_cuda:
            self._check(float(self._total), epoch, step)
            return
        if self._arrival is not None and not self._arrival.query():  # type: ignore[no-untyped-call]
            return
        if self._arrival is not None:
            self._check(float(self._seen), epoch, step)
        self._seen.copy_(self._total, non_blocking=True)
        self._arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._arrival.record()

    @staticmethod
    def _check(value: float, epoch: int, step: int) -> None:
        if not math.isfinite(value):
            raise NanLoss(f"the training loss is {value} within {step} steps of epoch {epoch + 1}")
