"""The metrics a training evaluator can measure: a light table, so that names are checked without importing torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

BOTH = frozenset({"classification", "regression"})


@dataclass(frozen=True, kw_only=True)
class MeasuredMetric:
    """One row of the table."""

    meaning: str
    #: "minimize" or "maximize"
    goal: str = "minimize"
    #: the kinds of task that have it
    kinds: frozenset[str] = BOTH
    #: it belongs to the architecture itself, not to what was trained: a result reused by canonical key measures it anew
    of_architecture: bool = False


CLASSIFICATION, REGRESSION = frozenset({"classification"}), frozenset({"regression"})

METRICS: Mapping[str, MeasuredMetric] = MappingProxyType(
    {
        "error": MeasuredMetric(meaning="1 - accuracy on the validation split, 0 … 1", kinds=CLASSIFICATION),
        "accuracy": MeasuredMetric(
            meaning="share of the validation split that is classified correctly, 0 … 1",
            goal="maximize",
            kinds=CLASSIFICATION,
        ),
        "loss": MeasuredMetric(
            meaning="mean cross-entropy (nats), or mean squared error in squared target units, on the validation split"
        ),
        "rmse": MeasuredMetric(
            meaning="root of the mean squared error on the validation split, in target units", kinds=REGRESSION
        ),
        "r2": MeasuredMetric(
            meaning="coefficient of determination on the validation split, averaged over the target columns",
            goal="maximize",
            kinds=REGRESSION,
        ),
        "parameters": MeasuredMetric(meaning="number of trainable parameters", of_architecture=True),
        "macs": MeasuredMetric(meaning="multiply-accumulate operations for one input", of_architecture=True),
        "activation_bytes": MeasuredMetric(
            meaning="bytes of the activations of one input in float32", of_architecture=True
        ),
        "latency_ms": MeasuredMetric(
            meaning="milliseconds of one forward pass (evaluator.latency_batch_size inputs) on the worker's or a named "
            "device",
            of_architecture=True,
        ),
        "energy_mj": MeasuredMetric(
            meaning="millijoules that the device takes for one such forward pass", of_architecture=True
        ),
        "training_seconds": MeasuredMetric(meaning="seconds the training took, building and loading excluded"),
    }
)
"""Every metric by its name."""


DEVICE_METRICS = frozenset({"latency_ms", "energy_mj"})
"""Those that depend on the device they are measured on."""


def available_metrics(kind: str | None = None) -> tuple[str, ...]:
    """The names that tasks of this kind have ("classification" or "regression"); None for all there are."""
    return tuple(name for name, metric in METRICS.items() if kind is None or kind in metric.kinds)


def check_metrics(names: Iterable[str], kind: str | None = None) -> None:
    """Raise `ValueError` for a name that is unknown, or that tasks of this kind do not have."""
    allowed = available_metrics(kind)
    for name in names:
        if name not in allowed:
            close = get_close_matches(name, allowed, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            of_kind = f" for {kind}" if kind else ""
            raise ValueError(f"no metric {name!r}{of_kind}; {hint}allowed are {', '.join(allowed)}")
