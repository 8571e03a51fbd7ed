"""Strategy: the seam between a search and what it tries next."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from nas.history import History
from nas.trial import Proposal


class Strategy(Protocol):
    """Decides what to try next. Any frozen dataclass with this method serves, by its ``module:object`` path.

    `propose` is a pure function: the same rows, count and generator state give the same proposals, in any process. It
    keeps nothing between calls but what it may find again in `history.cache` and could do without.

    Of the pending trials it may use what was proposed, not who runs them (`History.holders`); and the first k of
    `count` proposals are those of a call for k. So each proposal can be made again from the rows up to the revision it
    records, by whoever reads them later, without knowing how many were asked for together.
    """

    def propose(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Proposal]:
        """Up to `count` proposals, to be numbered from `history.next_number` on.

        Args:
            history: finished trials, and pending ones, which will not be proposed again.
            count: how many are wanted, at least 1.
            rng: made from (study seed, number of the first proposal).

        Returns:
            Fewer than `count`, or none, only when the space has nothing left that was not tried, or when trials that
            are pending must finish first.
        """
        ...
