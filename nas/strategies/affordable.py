"""Whether scoring untrained networks takes little time beside training them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nas.history import History
from nas.strategies.untrained import NoScores, Untrained
from predictors.zero_cost.catalogue import AZ_NAS

logger = logging.getLogger(__name__)

SCORES = Untrained(names=AZ_NAS, examples=16, gaussian=True)
"""What `is_affordable` asks about: AZ-NAS draws its inputs, so that a small batch of no data will do."""

COUNTED = Untrained(names=("macs",))

LATEST = 10
"""Trials that are looked at, the last to complete."""

CANDIDATES = 200
"""Networks that a proposal scores, at first; later many of them are known."""

SHARE = 0.1
"""Of a trial's seconds, what its proposal may take."""

SECONDS, PER_SECOND = 0.1, 1e10
"""Of a network: to build it, and multiply-accumulates on one core."""

PASSES = 5
"""Forward passes that the scores of one example are worth."""


def affordable(history: History, allow: Sequence[str] = ()) -> Untrained | None:
    """`SCORES` where they are affordable; those of them that networks of the space have, None where they have none."""
    if not is_affordable(history, allow):
        return None
    return history.cached(("scores that there are", tuple(allow)), lambda: _that_there_are(history, allow))


def _that_there_are(history: History, allow: Sequence[str]) -> Untrained | None:
    """By the first trial's network (and more where it has none): who asks later, or anew, gets the same answer."""
    first = history.finished.architecture(int(history.finished.completed[0]))
    names = SCORES.names
    while names:
        told = replace(SCORES, names=names)
        try:
            told.values(history, [first], allow)
        except NoScores as missing:
            logger.warning("the predictor is told nothing of %s: %s", ", ".join(missing.reasons), missing)
            names = tuple(name for name in names if name not in missing.reasons)
        else:
            return told
    return None


def is_affordable(history: History, allow: Sequence[str] = ()) -> bool:
    """Whether the scores of a proposal's candidates take a tenth of a trial's time at most.

    By the clock of the last trials and the count of their networks, so that the same history always says the same.
    False while there are few trials, where they were not timed, where networks are trained on nothing, and (once said
    in the log) where the study's data cannot be read, or no network can be built for them: nobody knows their size.
    """
    latest = history.finished.completed[-LATEST:]
    if len(latest) < LATEST or not history.space.has_network or history.data is None:
        return False
    seconds = float(np.median(history.finished.seconds[latest]))
    if not seconds * SHARE > CANDIDATES * SECONDS:  # NaN as well: nobody claimed them
        return False
    scoring = SECONDS + PASSES * SCORES.examples * _median_macs(history, latest, tuple(allow)) / PER_SECOND
    return seconds * SHARE > CANDIDATES * scoring


def _median_macs(history: History, positions: NDArray[np.int64], allow: tuple[str, ...]) -> float:
    """Of the networks at these positions; NaN, said once, where data cannot be read or networks not built."""
    slot = ("networks that nobody can count", allow)
    if slot in history.cache:
        return math.nan
    try:
        macs = COUNTED.values(history, [history.finished.architecture(int(place)) for place in positions], allow)
    except (ValueError, OSError) as error:
        logger.warning("no zero-cost scores are told to the predictor, as no network can be counted here: %s", error)
        history.cache[slot] = True
        return math.nan
    return float(np.median(macs))
