"""Random search: every proposal is drawn from the space, whatever was learnt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.history import History
from nas.strategies.untried import Untried
from nas.trial import Proposal


@dataclass(frozen=True, kw_only=True)
class RandomSearch:
    """Architectures drawn top-down, every decision uniformly on its own scale.

    Args:
        distinct: propose no architecture twice. False proposes again what does not fail.
    """

    distinct: bool = True

    def propose(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Proposal]:
        """See `Strategy.propose`."""
        untried = Untried(history, self.distinct)
        proposals: list[Proposal] = []
        while len(proposals) < count and (architecture := untried.random(rng)) is not None:
            proposals.append(Proposal(architecture=untried.take(architecture)))
        return proposals
