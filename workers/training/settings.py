"""TrainingSettings: everything that says how a network is trained. Light: no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Literal, Self, get_args

OptimizerName = Literal["adamw", "sgd"]
ScheduleName = Literal["cosine", "one_cycle", "constant"]
Precision = Literal["auto", "float32", "bfloat16"]


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
    crop: int = 0
    """Images only: each is shifted by up to so many pixels, what comes in is 0; see `workers.training.augmentation`."""
    flip: bool = False
    """Images only: half of them, other ones in each epoch, are mirrored left to right."""
    cutout: int = 0
    """Images only: the side in pixels of a square that is blotted out at random; 0 for none."""
    mixup: float = 0.0
    """Blend each example with another one, by a share from Beta(mixup, mixup); 0 for not. Regression blends targets."""
    prune: float = 0.0
    """Share of the well-learnt examples that an epoch leaves out, while the others weigh more for it; 0 for none. See
    `workers.training.pruning` (InfoBatch)."""
    base_depth: int = 0
    """The learning rate is the best of a plain chain of so many layers: scale it, and the weights at the start, to each
    network's own graph (see `workers.training.scaling`). 0 takes both as they are."""
    precision: Precision = "auto"
    """"bfloat16" computes the forward pass under autocast; weights and optimiser stay float32. "auto" does so on GPUs
    that have bfloat16."""
    capture: bool = True
    """On a GPU, record the training step once and replay it. For networks whose forward pass depends on Python's own
    state (counters, random numbers that are not torch's), which a recording cannot see, turn it off."""
    memory_bytes: int | None = None
    """A network that would need more to train is not begun: out of memory. None for the worker's share of the GPU; no
    limit on a CPU."""
    threads: int = 1
    """CPU threads of torch while it trains. One per worker is best where workers share the cores, and the same on every
    machine; 0 takes the worker's share of the machine's cores."""
    deterministic: bool = False
    """Only algorithms that give the same numbers each time: slower on a GPU, and an operation that has none fails the
    trial. On a CPU trainings repeat without."""

    def __post_init__(self) -> None:
        for name, allowed in (("optimizer", OptimizerName), ("schedule", ScheduleName), ("precision", Precision)):
            value = getattr(self, name)
            if value not in get_args(allowed):
                raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, got {value!r}")
        for name in ("flip", "capture", "deterministic"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")
        least = {"epochs": 1, "batch_size": 1, "threads": 0, "crop": 0, "cutout": 0, "base_depth": 0}
        for name, lowest in (least if self.memory_bytes is None else {**least, "memory_bytes": 1}).items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                raise ValueError(f"{name} must be a whole number >= {lowest}, got {value!r}")
        bounds = {
            "learning_rate": (0.0, math.inf),
            "momentum": (0.0, 1.0),
            "weight_decay": (0.0, math.inf),
            "warmup": (0.0, 1.0),
            "label_smoothing": (0.0, 1.0),
            "gradient_clip": (0.0, math.inf),
            "mixup": (0.0, math.inf),
            "prune": (0.0, 1.0),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < high:
                raise ValueError(f"{name} must be a number from {low:g} up to, not including, {high:g}, got {value!r}")
        if self.learning_rate == 0:
            raise ValueError("learning_rate must be larger than 0, got 0")
        if self.prune and self.mixup:
            raise ValueError(
                f"prune goes by each example's own loss, which mixup blends with another's; use one of them, got "
                f"prune={self.prune} and mixup={self.mixup}"
            )

    def check_task(self, kind: str, input_shape: Sequence[int]) -> None:
        """Raise `ValueError` if a setting does not suit the task.

        Args:
            kind: "classification" or "regression".
            input_shape: of one example; images are channels x height x width.
        """
        if kind == "regression" and self.label_smoothing:
            raise ValueError(f"label_smoothing is for classification only, got {self.label_smoothing} for regression")
        for name in ("crop", "flip", "cutout"):
            value = getattr(self, name)
            if value and len(input_shape) != 3:
                raise ValueError(
                    f"{name} is for images (channels x height x width), got {name}={value!r} for inputs of shape "
                    f"{tuple(input_shape)}; leave it out"
                )
            if name != "flip" and value and value > min(input_shape[1:]):
                raise ValueError(
                    f"{name} must be at most the smaller side of the images, {min(input_shape[1:])} pixels, got {value}"
                )

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
