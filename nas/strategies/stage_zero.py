"""Stage zero: any strategy, guided by what zero-cost proxies like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from nas import catalogue
from nas.history import History
from nas.metric import Metric
from nas.recommended import beliefs
from nas.settings import part
from nas.strategies.allowing import Allowing
from nas.strategies.checks import at_least
from nas.strategies.strategy import Strategy
from nas.strategies.untrained import Untrained, told_by
from nas.strategies.untried import Untried
from nas.trial import Proposal
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from nas.strategies.next_candidate import Believed


@dataclass(frozen=True, kw_only=True)
class StageZero(Allowing):
    """The first trials are the best of many random architectures by the ranks of proxies; then another takes over.

    The candidates, the batch and the weights come from the study's seed, so the ranking is the study's own. It is
    computed when the first proposal is made, on one thread, and kept in `history.cache`; that takes `candidates` times
    the seconds that `nas score` reports. With `best_of` the proxies keep their say: of so many architectures that the
    other strategy would try next, the best by the ranks among them is tried; those passed over may come again. What a
    proxy gave becomes an attribute of the trial, "proxies".

    With `strategy` "bayesian" it is that strategy's initial design: its own begins only where `initial` is larger.

    Args:
        data: name or path of the data set that networks are scored on, or a table of its name and settings; the study's
            own unless given.
        strategy: name or path of the one that takes over, or a table of its name and settings.
        initial: so many trials are of the ranking; 0 for none.
        candidates: so many different networks are drawn and ranked.
        best_of: a proposal of the other strategy is the best of so many; 1 leaves them as they are. Promotions and
            repeats are never passed over. Where the other strategy has no more, those passed over follow.
        proxies: by default the four of AZ-NAS; see `nas.strategies.untrained.Untrained`. A space that describes no
            network needs look-ups.
        examples: in the batch.
        gaussian: standard normal inputs in place of the data's.
        device: where networks are scored, "cpu" or "cuda"; see `nas.strategies.untrained.Untrained`.

    Source: Mellor et al., Neural Architecture Search without Training, arXiv:2006.04647v3, section 4 (AREA: evolution
    whose first population is chosen so).
    """

    data: str | Mapping[str, Any] | None = field(default=None, hash=False)
    strategy: str | Mapping[str, Any] = field(default="regularized_evolution", hash=False)
    initial: int = 20
    candidates: int = 200
    best_of: int = 1
    proxies: Sequence[str | Mapping[str, Any]] | None = field(default=None, hash=False)
    examples: int = 64
    gaussian: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        at_least("initial", self.initial, 0)
        for name in ("candidates", "best_of"):
            at_least(name, getattr(self, name), 1)
        if self.initial > self.candidates:
            raise ValueError(f"initial must be at most candidates ({self.candidates}), got {self.initial!r}")
        _ = self._scores
        stated = part(self.strategy, "strategy")
        catalogue.path_of("strategy", stated.name)
        if ":" not in stated.name:
            _ = self._follower  # ours: its settings can be checked before anything is allowed

    def check(self, space: SearchSpace, metrics: Sequence[Metric]) -> None:
        """`ValueError` says what does not fit a study of this space and these metrics."""
        self._scores.check(space, self._allow)
        follower: Any = self._follower
        if getattr(follower, "needs_budget", False):
            name = part(self.strategy, "strategy").name
            raise ValueError(
                f"strategy {name!r} says how far each trial is trained, stage_zero does not: take {name!r} as the "
                "study's strategy, and stage_zero as what proposes in it (strategy.strategy=stage_zero)"
            )
        if hasattr(follower, "check"):
            follower.check(space, metrics)

    def propose(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Proposal]:
        """See `Strategy.propose`."""
        proposals = list(islice(self._ranked(history), min(count, max(0, self.initial - history.next_number))))
        if len(proposals) < count:
            # it does not know the ones above, so it is asked for as many more as could be among them
            taken = {proposal.architecture for proposal in proposals}
            further = self._follower.propose(history, count * self.best_of, rng)
            new = (proposal for proposal in further if proposal.architecture not in taken)
            proposals += islice(self._chosen(history, new), count - len(proposals))
        return proposals

    def believed(self, history: History) -> Believed | None:
        """What the other strategy believes of the finished trials; where it has no predictor, what `Bayesian` does."""
        return beliefs(self._follower, history, allow=self._allow)

    def told(self, history: History) -> Untrained | None:
        """What the other strategy's predictor is told of architectures; None for nothing."""
        return told_by(self._follower, history)

    def _ranked(self, history: History) -> Iterator[Proposal]:
        """Untried candidates, the best first."""
        untried = Untried(history)
        for architecture in self._ranking(history):
            if architecture in untried:
                yield Proposal(architecture=untried.take(architecture), attributes=self._notes(history, architecture))

    def _chosen(self, history: History, proposals: Iterable[Proposal]) -> Iterator[Proposal]:
        """The best of each `best_of` new architectures, in their order; where there are no more, those passed over."""
        if self.best_of == 1:
            yield from proposals
            return
        group: list[Proposal] = []
        passed_over: list[Proposal] = []
        for proposal in proposals:
            if proposal.promoted_from is not None or proposal.repeat:
                yield proposal
                continue
            group.append(proposal)
            if len(group) == self.best_of:
                best, *others = self._sorted(history, group)
                yield best
                passed_over += others
                group = []
        yield from self._sorted(history, [*passed_over, *group])

    def _sorted(self, history: History, proposals: Sequence[Proposal]) -> Sequence[Proposal]:
        """The best first, each with its scores."""
        order = self._order(history, [proposal.architecture for proposal in proposals]) if proposals else []
        return [
            replace(
                proposals[place],
                attributes={**proposals[place].attributes, **self._notes(history, proposals[place].architecture)},
            )
            for place in order
        ]

    def _ranking(self, history: History) -> Sequence[Architecture]:
        """The candidates, the best first; the same whenever it is computed."""
        from nas.scoring import sample_networks

        def ranked() -> Sequence[Architecture]:
            drawn = list(sample_networks(history.space, self.candidates, history.seed))
            return tuple(drawn[place] for place in self._order(history, drawn))

        return history.cached(("stage_zero", repr(self)), ranked)

    def _order(self, history: History, architectures: Sequence[Architecture]) -> list[int]:
        """Places of the architectures, the best first; of equal ones the first."""
        from predictors.zero_cost.ranking import rank_aggregate

        values = self._scores.values(history, architectures, self._allow)
        order: list[int] = np.argsort(-rank_aggregate(values), kind="stable").tolist()
        return order

    def _notes(self, history: History, architecture: Architecture) -> Mapping[str, Any]:
        return self._scores.notes(history, architecture, self._allow)

    @property
    def _scores(self) -> Untrained:
        from predictors.zero_cost.catalogue import AZ_NAS

        return Untrained(
            names=AZ_NAS if self.proxies is None else self.proxies,
            data=self.data,
            examples=self.examples,
            gaussian=self.gaussian,
            device=self.device,
        )

    @property
    def _follower(self) -> Strategy:
        stated = part(self.strategy, "strategy")
        found: Strategy = catalogue.load("strategy", stated.name, stated.settings, allow=self._allow)
        return found
