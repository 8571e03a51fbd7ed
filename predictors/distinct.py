"""distinct: each architecture once, so that equal ones get equal beliefs, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Architecture


def distinct(architectures: Sequence[Architecture]) -> tuple[list[Architecture], NDArray[np.int64]]:
    """The different architectures in order of appearance, and for each of the given ones its place among them."""
    places: dict[Architecture, int] = {}
    found = np.array([places.setdefault(architecture, len(places)) for architecture in architectures], dtype=np.int64)
    return list(places), found


def together(architectures: Sequence[Architecture]) -> list[NDArray[np.int64]]:
    """For each different architecture, in order of appearance, the places where it stands: repeats of one trial."""
    different, places = distinct(architectures)
    order = np.argsort(places, kind="stable")
    return np.split(order, np.cumsum(np.bincount(places, minlength=len(different)))[:-1])
