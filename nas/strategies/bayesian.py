"""Bayesian search: a predictor says what to expect of untried architectures, an acquisition which of them to try."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from nas import catalogue
from nas.history import History
from nas.metric import Metric
from nas.settings import Part, part
from nas.strategies.allowing import Allowing
from nas.strategies.checks import at_least, one_of
from nas.strategies.designs import DESIGNS, latin_hypercube
from nas.strategies.untrained import Untrained
from nas.strategies.untried import Untried
from nas.trial import Proposal
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from nas.candidates.ground import Candidate
    from nas.strategies.next_candidate import Believed, Parts, Search

Named = str | Mapping[str, Any]
"""A short name or ``module:object``, or a table of such a name and settings."""

PARTS = ("predictor", "acquisition", "candidates")
"""Kinds of plug-ins that a Bayesian strategy is put together from."""


@dataclass(frozen=True, kw_only=True)
class Bayesian(Allowing):
    """Model-based search: fit, look for the candidate with the best score, propose it.

    The first `initial` trials come from a design. After that the predictor is fitted to what has completed, once for
    each metric; pending trials count with the loss that is expected of them, so that a batch spreads. Failed trials
    teach which architectures fail, limits count with the probability that they are kept. No architecture is proposed
    twice. While fewer than two trials have completed, proposals are random.

    Args:
        predictor: what learns from finished trials.
        acquisition: what says how much a candidate is worth trying; by default `log_expected_improvement`, for two
            or three metrics `qlognehvi`, for more `qlognparego` (the boxes of a hypervolume become too many).
        candidates: where the best candidate is looked for.
        features: quantities known before any training that the predictor is told as well: a list of names, or a table
            of the settings of `nas.strategies.untrained.Untrained`. They become attributes of the trials. Every
            candidate that is looked at is measured: counting `macs` and `parameters` takes a millisecond, a proxy as
            long as `nas score` says.
        initial: trials of the design; those a person enqueued count.
        design: "latin_hypercube" or "random".
        pending: "believe" takes a pending trial to give the mean of what is believed, "draw" a draw of it, "ignore"
            only keeps it from being proposed again, and what is believed of it from being gained twice. Acquisitions
            that draw (Thompson) spread by themselves: for them nothing is taken in.
        fantasies: with pending "draw", the score is the mean over so many draws of all that is pending.
        warp: "half_ranks" keeps hopeless losses from drowning the good ones (`lessons.half_ranks`), "none" learns
            them as they are.
        batch: so many proposals are the best of one look at the candidates, as a search with very many workers needs:
            what is pending is taken in before each look, not after each proposal.
        most: so many trials are learnt from at most; see `lessons.lessons` for which.
        per_second: prefer what gains most per second of a trial: the expected logarithm of its seconds is taken from
            the score. Only for acquisitions in logarithms.

    Source: Snoek, Larochelle, Adams 2012, "Practical Bayesian Optimization of Machine Learning Algorithms"; the batch
    is that of White, Neiswanger, Savani 2021 (BANANAS), algorithm 1.
    """

    predictor: Named = field(default="gaussian_process", hash=False)
    acquisition: Named | None = field(default=None, hash=False)
    candidates: Named = field(default="mutation_pool", hash=False)
    features: Sequence[Named] | Mapping[str, Any] | None = field(default=None, hash=False)
    initial: int = 10
    design: Literal["latin_hypercube", "random"] = "latin_hypercube"
    pending: Literal["believe", "draw", "ignore"] = "believe"
    fantasies: int = 1
    warp: Literal["half_ranks", "none"] = "half_ranks"
    batch: int = 1
    most: int = 1000
    per_second: bool = False
    #: the acquisition of one metric, where none is named
    usual: ClassVar[Named] = "log_expected_improvement"

    def __post_init__(self) -> None:
        for kind in PARTS:
            catalogue.path_of(kind, self.part(kind).name)
        at_least("initial", self.initial, 1)
        at_least("batch", self.batch, 1)
        at_least("most", self.most, 2)
        at_least("fantasies", self.fantasies, 1)
        if self.fantasies > 1 and self.pending != "draw":
            raise ValueError(f"fantasies are averaged with pending 'draw' only, got pending {self.pending!r}")
        one_of("design", self.design, DESIGNS)
        one_of("pending", self.pending, ("believe", "draw", "ignore"))
        one_of("warp", self.warp, ("half_ranks", "none"))
        _ = self._features
        if not isinstance(self.per_second, bool):
            raise ValueError(f"per_second must be true or false, got {self.per_second!r}")

    def part(self, kind: str, metrics: int = 1) -> Part:
        """The name and settings of one of `PARTS`, for a study of so many metrics."""
        (own,) = (field for field in fields(self) if field.name == kind)
        usual = own.default_factory() if callable(own.default_factory) else own.default
        if kind == "acquisition":
            usual = self.usual if metrics == 1 else "qlognehvi" if metrics <= 3 else "qlognparego"
        given = getattr(self, kind)
        return part(usual if given is None else given, kind, default=part(usual, kind).name)

    def check(self, space: SearchSpace, metrics: Sequence[Metric]) -> None:
        """Make all parts, for a study of this space and these metrics; `ValueError` says what does not fit."""
        parts = self._parts(space, len(metrics))
        candidates: Any = parts.candidates
        if hasattr(candidates, "check"):  # see nas.candidates.ground.ParticularCandidates
            candidates.check(space)
        if self._features is not None:
            from predictors.features import Decisions, knowing

            self._features.check(space, self._allow)
            knowing(parts.predictor, Decisions())  # refuses a predictor that cannot be told anything

    def propose(self, history: History, count: int, rng: np.random.Generator) -> Sequence[Proposal]:
        """See `Strategy.propose`."""
        untried = Untried(history)
        proposals: list[Proposal] = []
        features = self.told(history)
        search: Search | None = None
        ready: list[Candidate] = []  # the rest of a batch
        while len(proposals) < count and not untried.is_exhausted:
            number = len(history) + len(proposals)
            architecture: Architecture | None = None
            lineage: tuple[int, ...] = ()
            if number < self.initial:
                architecture = self._designed(history, number)
            elif history.space_size > 1:
                search = search or self._search(history, features)
                if search is not None and not ready:
                    chosen = [proposal.architecture for proposal in proposals]
                    ready = list(search.next(untried, chosen, rng, self.batch))
                if ready:
                    architecture, lineage = ready.pop(0)
            if architecture is None or architecture not in untried:
                architecture = untried.random(rng)
            if architecture is None:
                break
            notes = {} if features is None else features.notes(history, architecture, self._allow)
            proposals.append(Proposal(architecture=untried.take(architecture), lineage=lineage, attributes=notes))
        return proposals

    def told(self, history: History) -> Untrained | None:
        """What the predictor is told beside the decisions, after this history; None for nothing."""
        return self._features

    def believed(self, history: History) -> Believed | None:
        """What is believed of the finished trials; None while fewer than two have completed."""
        search = self._search(history, self.told(history))
        return None if search is None else search.believed()

    def _parts(self, space: SearchSpace, metrics: int) -> Parts:
        from nas.strategies.next_candidate import Parts  # heavy: what it imports is needed once there is a model

        return Parts.of(
            {kind: self.part(kind, metrics) for kind in PARTS},
            space=space,
            metrics=metrics,
            allow=self._allow,
            per_second=self.per_second,
            batch=self.batch,
        )

    def _telling(self, history: History, features: Untrained | None) -> Parts:
        """The parts, the predictor told these features of this history's architectures."""
        parts = self._parts(history.space, len(history.metrics))
        if features is None:
            return parts
        from predictors.features import knowing

        return replace(parts, predictor=knowing(parts.predictor, features.quantities(history, self._allow)))

    @property
    def _features(self) -> Untrained | None:
        """Those that were named."""
        return Untrained.of(self.features, "features") if self.features else None

    def _search(self, history: History, features: Untrained | None) -> Search | None:
        """The search for the next candidate; None while there is too little to learn from."""
        if len(history.finished.completed) < 2:
            return None
        from nas.strategies.next_candidate import Search

        # the parts stay for the whole study, for what they remember of architectures (encodings)
        key = (*self._key, "parts", features is not None)
        parts = history.cached(key, lambda: self._telling(history, features))
        return Search.begin(
            parts,
            history,
            key=self._key,
            most=self.most,
            warp=self.warp,
            pending=self.pending,
            fantasies=self.fantasies,
        )

    def _designed(self, history: History, number: int) -> Architecture | None:
        """The design's architecture for trial `number`; None where the design is to draw at random."""
        if self.design == "random":
            return None
        # the whole design is one object, so it is drawn from the study's seed, not from that of a proposal
        made = history.cached(
            ("design", self.initial),
            lambda: latin_hypercube(history.space, self.initial, np.random.default_rng([history.seed, self.initial])),
        )
        return made[number]

    @property
    def _key(self) -> tuple[type, str]:
        """Tells what this strategy keeps in `history.cache` from what others do."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        return type(self), json.dumps(settings, sort_keys=True, default=dict)
