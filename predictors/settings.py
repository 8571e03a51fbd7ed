"""settings: checks of the fields of predictors, with one wording."""

from __future__ import annotations

import math
from collections.abc import Sequence


def check_counts(least: int = 1, /, **settings: object) -> None:
    """Each of these must be a whole number of at least `least`."""
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_seed(seed: object) -> None:
    """It must be one that the generators of torch, numpy and scikit-learn all take."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to {2**32 - 1}, got {seed!r}")


def check_positive(**settings: object) -> None:
    """Each of these must be a positive number, and finite."""
    for name, value in settings.items():
        if not 0 < _number(value) < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value!r}")


def check_not_negative(**settings: object) -> None:
    """Each of these must be a number of at least 0, and finite."""
    for name, value in settings.items():
        if not 0 <= _number(value) < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, got {value!r}")


def check_shares(**settings: object) -> None:
    """Each of these must be a number above 0 and at most 1."""
    for name, value in settings.items():
        if not 0 < _number(value) <= 1:
            raise ValueError(f"{name} must be above 0 and at most 1, got {value!r}")


def check_noise(noise: object) -> None:
    """A given noise is a variance; None is one to learn."""
    if noise is not None and not 0 < _number(noise) < math.inf:
        raise ValueError(f"noise is a variance, positive and finite, or none to learn it; got {noise!r}")


def check_hidden(hidden: object) -> None:
    """Units of each hidden layer; there may be no layer."""
    if not isinstance(hidden, Sequence) or isinstance(hidden, str):
        raise ValueError(f"hidden must be a list of the units of each hidden layer, got {hidden!r}")
    if any(isinstance(width, bool) or not isinstance(width, int) or width < 1 for width in hidden):
        raise ValueError(f"hidden: every layer needs at least one unit, a whole number, got {list(hidden)!r}")


def _number(value: object) -> float:
    """The number itself; NaN, which fails every comparison, where it is none."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
