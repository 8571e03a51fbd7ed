"""Grid: every architecture once, in the order of the space's decisions."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.history import History
from nas.strategies.checks import at_least
from nas.strategies.untried import Untried
from nas.trial import Proposal
from search_spaces.architecture import Architecture
from search_spaces.moves import enumerate_all


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All combinations of values, the last decision's changing fastest.

    Args:
        points: how many evenly spaced values of each Float to take. A space with a Float is refused without it.
    """

    points: int | None = None

    def __post_init__(self) -> None:
        if self.points is not None:
            at_least("points", self.points, 1)

    def propose(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Proposal]:
        """See `Strategy.propose`. The first ones in order that nobody proposed before; `rng` is not used."""
        walk = history.cached(self, lambda: _Walk(enumerate_all(history.space, self.points)))
        untried = Untried(history)
        while walk.ahead and walk.ahead[0] not in untried:
            walk.ahead.popleft()
        chosen = []
        for architecture in walk.upcoming():
            if architecture in untried:
                chosen.append(Proposal(architecture=untried.take(architecture)))
                if len(chosen) == count:
                    break
        return chosen


@dataclass
class _Walk:
    """How far the enumeration has come: everything before `ahead` was proposed, and stays so."""

    rest: Iterator[Architecture]
    ahead: deque[Architecture] = field(default_factory=deque)

    def upcoming(self) -> Iterator[Architecture]:
        yield from tuple(self.ahead)
        for architecture in self.rest:
            self.ahead.append(architecture)
            yield architecture
