"""LatencyPredictor: latency as a sum over operators, with coefficients learnt from measured networks.

Each kind of operator has three non-negative coefficients: milliseconds of a call, of a multiply-accumulate and of a
byte. That is too little to be wrong about networks like those measured, and enough for dozens of them to determine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.operators import Operator

FORMAT = "nas-latency-predictor-1"
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Penalties of the square of each coefficient, in units of its column, per network: against the noise of measurements,
and to decide between coefficients that the networks do not tell apart. The one that foretells best is taken."""
FOLDS = 4


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """How well latencies were foretold that a fit had not seen."""

    #: Kendall's tau-b between foretold and measured, NaN if either is constant
    kendall_tau: float
    #: mean of |foretold - measured| / measured
    relative_error: float
    #: networks
    count: int


@dataclass(frozen=True, kw_only=True)
class LatencyPredictor:
    """Coefficients, and what they hold for."""

    #: the space's name
    space: str
    #: of one input, without the batch
    input_shape: tuple[int, ...]
    device: str
    software: str
    batch_size: int
    precision: str
    #: feature -> milliseconds
    coefficients: Mapping[str, float]
    held_out: HeldOut

    def latency_ms(self, operators: Sequence[Operator]) -> float:
        """Of a network with these operators; `ValueError` for one of a kind that no measured network had."""
        found = features(operators)
        unknown = sorted({name.rpartition(" ")[0] for name in found.keys() - self.coefficients.keys()})
        if unknown:
            raise ValueError(
                f"the latency predictor was fitted to networks of {self.space!r} without {unknown[0]}; fit it to "
                "networks like these (nas latency fit), or measure"
            )
        return sum(self.coefficients[name] * value for name, value in found.items())

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n", encoding="utf-8")


def read_predictor(path: Path) -> LatencyPredictor:
    """What `LatencyPredictor.write` wrote; `ValueError` says what is wrong with the file."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format") != FORMAT or set(document) != {field.name for field in fields(LatencyPredictor)}:
            raise ValueError("it is of another kind")
        coefficients = {str(name): float(value) for name, value in document["coefficients"].items()}
        if not all(0 <= value < math.inf for value in coefficients.values()):
            raise ValueError("a coefficient is no number of at least 0")
        shape = tuple(int(size) for size in document["input_shape"])
        held_out = HeldOut(**document["held_out"])
        return LatencyPredictor(**document | {"coefficients": coefficients, "input_shape": shape, "held_out": held_out})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} holds no latency predictor ({type(error).__name__}: {error}); nas latency fit makes one"
        ) from error


def features(operators: Sequence[Operator]) -> dict[str, float]:
    """For each kind of operator: calls, multiply-accumulates where it has any, and bytes."""
    sums: dict[str, float] = {}
    for operator in operators:
        for unit, value in (("calls", 1), ("macs", operator.macs), ("bytes", operator.bytes)):
            if value:
                name = f"{operator.kind} {unit}"
                sums[name] = sums.get(name, 0.0) + value
    return sums


def fit(rows: Sequence[Mapping[str, float]], latencies_ms: Sequence[float]) -> dict[str, float]:
    """Coefficients with the least squares of relative errors, none of them negative.

    Args:
        rows: the features of n networks.
        latencies_ms: what they took, all above 0.
    """
    names = sorted({name for row in rows for name in row})
    measured = np.asarray(latencies_ms, dtype=np.float64)
    values: NDArray[np.float64] = np.array([[row.get(name, 0.0) for name in names] for row in rows])
    relative = values / measured[:, None]
    scale = np.sqrt(np.mean(relative**2, axis=0))
    shares = relative / scale
    ridge = min(RIDGES, key=lambda ridge: _error_of_unseen(shares, ridge))
    return dict(zip(names, (_solved(shares, ridge) / scale).tolist(), strict=True))


def _solved(shares: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """Coefficients whose sum over each row is about 1; shape (features,)."""
    from scipy.optimize import nnls  # a second, which no training needs: they all read this module

    count, width = shares.shape
    penalty = math.sqrt(ridge * count) * np.eye(width)
    found: NDArray[np.float64] = nnls(np.vstack([shares, penalty]), np.concatenate([np.ones(count), np.zeros(width)]))[
        0
    ]
    return found


def _error_of_unseen(shares: NDArray[np.float64], ridge: float) -> float:
    """Mean squared relative error of each quarter of the networks, by a fit to the others."""
    fold_of = np.arange(len(shares)) % FOLDS
    errors = [shares[fold_of == at] @ _solved(shares[fold_of != at], ridge) - 1.0 for at in range(FOLDS)]
    return float(np.mean(np.concatenate(errors) ** 2))
