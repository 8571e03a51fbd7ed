"""Quantities of any architecture, as a benchmark would look them up; and a proxy of one's own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from predictors.features import Quantities
from predictors.zero_cost.private_copy import proxy
from search_spaces.architecture import Architecture
from tests.nas.strategies.simulated import loss

#: what a perfect proxy would say: larger is better
PERFECT = Quantities(
    ("perfect",), lambda architectures: np.array([[-loss(one)] for one in architectures]).reshape(-1, 1)
)


@dataclass(frozen=True)
class Times:
    """The same, times a number that the settings give; nothing is known where that is 0."""

    factor: float = 1.0
    names: tuple[str, ...] = ("times",)

    def measure(self, architectures: Sequence[Architecture]) -> np.ndarray:
        return PERFECT.measure(architectures) * (self.factor or np.nan)


@proxy
def layers(network, batch, loss):
    return float(len(list(network.modules())))


def unknown(network, batch, loss):
    """A proxy that keeps no promises."""
    return float("nan")


NOTHING = 3
