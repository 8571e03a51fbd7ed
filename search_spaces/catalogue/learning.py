"""The training decisions that the ready spaces have in common."""

from __future__ import annotations

from search_spaces.catalogue.checks import check_fraction
from search_spaces.nodes import Choice, Float, Node


def learning_decisions(*, label_smoothing: float = 0.0) -> dict[str, Node]:
    """Decisions named like the fields of a training's settings; momentum is decided for SGD only.

    Args:
        label_smoothing: the largest to consider; 0 leaves it undecided, as a regression must.
    """
    check_fraction("label_smoothing", label_smoothing)
    decisions: dict[str, Node] = {
        "optimizer": Choice({"adamw": {}, "sgd": {"momentum": Float(0.5, 0.99)}}),
        "learning_rate": Float(1e-4, 1e-1, log=True),
        "weight_decay": Float(1e-6, 1e-1, log=True),
        "batch_size": Choice([32, 64, 128]),
        "schedule": Choice(["cosine", "one_cycle"]),
    }
    if label_smoothing > 0:
        decisions["label_smoothing"] = Float(0.0, label_smoothing)
    return decisions
