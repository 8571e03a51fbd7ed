"""TrainingSettings: everything that says how a network is trained. Light: no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Literal, Self, get_args

OptimizerName = Literal["adamw", "sgd"]
ScheduleName = Literal["cosine", "one_cycle", "constant"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How to train. Any field may also be a decision of the search space."""

    epochs: int = 20
    """Passes over the training split; a trial's budget takes its place."""
    batch_size: int = 64
    """Examples per step; at most the training split. What does not fill a last batch is left out of that epoch."""
    optimizer: OptimizerName = "adamw"
    """"sgd" has Nesterov momentum."""
    learning_rate: float = 1e-2
    """The largest of the schedule."""
    momentum: float = 0.9
    """Of SGD; AdamW's first beta."""
    weight_decay: float = 1e-2
    """On weights of two or more axes; biases and normalisation are not decayed. AdamW: decoupled. SGD: L2."""
    schedule: ScheduleName = "one_cycle"
    """How the learning rate moves with the share of steps done; see `workers.training.schedules`."""
    warmup: float = 0.0
    """Share of the steps over which the learning rate rises; "one_cycle" takes 0.3 if this is 0."""
    label_smoothing: float = 0.0
    """Of the training cross-entropy; regression must leave it at 0."""
    gradient_clip: float = 0.0
    """Largest norm of the gradient of all parameters together; 0 for no limit."""
    precision: Precision = "float32"
    """"bfloat16" computes the forward pass under autocast; weights and optimiser stay float32."""
    threads: int = 1
    """CPU threads of torch while it trains. One per worker is best where workers share the cores."""

    def __post_init__(self) -> None:
        for name, allowed in (("optimizer", OptimizerName), ("schedule", ScheduleName), ("precision", Precision)):
            value = getattr(self, name)
            if value not in get_args(allowed):
                raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, got {value!r}")
        for name in ("epochs", "batch_size", "threads"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
        bounds = {
            "learning_rate": (0.0, math.inf),
            "momentum": (0.0, 1.0),
            "weight_decay": (0.0, math.inf),
            "warmup": (0.0, 1.0),
            "label_smoothing": (0.0, 1.0),
            "gradient_clip": (0.0, math.inf),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < high:
                raise ValueError(f"{name} must be a number from {low:g} up to, not including, {high:g}, got {value!r}")
        if self.learning_rate == 0:
            raise ValueError("learning_rate must be larger than 0, got 0")

    def with_decisions(self, decisions: Mapping[str, Any]) -> Self:
        """These settings with some fields replaced; an unknown name is a `ValueError` that names the nearest."""
        allowed = setting_names()
        for name in decisions:
            if name not in allowed:
                close = get_close_matches(name, allowed, 1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise ValueError(f"no training setting {name!r}; {hint}allowed are {', '.join(allowed)}")
        return replace(self, **decisions)


def setting_names() -> tuple[str, ...]:
    """The names of the fields of `TrainingSettings`."""
    return tuple(field.name for field in fields(TrainingSettings))
