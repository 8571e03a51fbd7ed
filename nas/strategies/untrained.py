"""Untrained: what a strategy may know of architectures before any training: exact costs, zero-cost scores, look-ups."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.history import History
from nas.settings import check_keys, part
from nas.strategies.checks import at_least
from predictors.one_thread import on_one_thread
from search_spaces.architecture import Architecture
from search_spaces.loading import load_object
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from predictors.features import Quantities
    from workers.datasets import Dataset

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]
Measure = Callable[[Sequence[Architecture]], FloatArray]

EXACT = ("macs", "parameters", "complexity")
"""Proxies that are counted from an architecture's operations, no network being built; the last is another `macs`."""

PROBED = 20
"""Random networks that are measured, beside those that were asked for, before a proxy counts as one without scores."""


class NoScores(ValueError):
    """Proxies that have no score for any network of a space.

    Args:
        space: its name.
        reasons: proxy -> why the first network has none.
    """

    def __init__(self, space: str, reasons: Mapping[str, str]) -> None:
        self.reasons = reasons
        super().__init__(
            f"no network of space {space!r} that was tried has a score by {', '.join(reasons)}: "
            f"{next(iter(reasons.values()))}; name other proxies, or data that the networks are made for"
        )


@dataclass(frozen=True, kw_only=True)
class Untrained:
    """Quantities by name; those of networks are seeded by the study and by the architecture.

    Args:
        names: each a proxy of `predictors.zero_cost.catalogue`; ``module:function`` of one of your own; or a look-up,
            ``module:object`` (or a table of a class's path and settings): it has `names` and `measure`, as
            `predictors.features.Quantities` does.
        data: what networks are scored on, a name or a table; the study's own data unless given.
        examples: in the batch that networks are scored on.
        gaussian: standard normal inputs in place of the data's.
        device: where networks are scored, "cpu" or "cuda"; it must be there wherever proposals are made. Scores of
            another device differ in their last digits.
    """

    names: Sequence[str | Mapping[str, Any]]
    data: str | Mapping[str, Any] | None = None
    examples: int = 64
    gaussian: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        from predictors.zero_cost.catalogue import checked_names

        if isinstance(self.names, str | Mapping) or not isinstance(self.names, Sequence):
            raise ValueError(f"a list of names of proxies is needed, got {self.names!r}")
        checked_names([part(name, "a proxy").name for name in self.names])
        at_least("examples", self.examples, 1)
        if not isinstance(self.gaussian, bool):
            raise ValueError(f"gaussian must be true or false, got {self.gaussian!r}")
        if not isinstance(self.device, str):
            raise ValueError(f"device must be 'cpu' or 'cuda', got {self.device!r}")
        if self.data is not None:
            part(self.data, "data")

    @classmethod
    def of(cls, stated: Sequence[str | Mapping[str, Any]] | Mapping[str, Any], key: str) -> Untrained:
        """From a list of names, or from a table of this class's settings; `key` is what a message calls it."""
        if not isinstance(stated, Mapping):
            return cls(names=stated)
        check_keys(stated, [field.name for field in fields(cls)], key)
        if "names" not in stated:
            raise ValueError(f"{key} must say names, a list of proxies; got {stated!r}")
        return cls(**stated)

    def check(self, space: SearchSpace, allow: Sequence[str] = ()) -> None:
        """`ValueError` if something is named that is not there, or if there are no networks to score."""
        from workers.measure import checked_device

        checked_device(self.device)
        counted, scored, _ = self._sorted(allow)
        if (counted or scored) and not space.has_network:
            raise ValueError(
                f"{', '.join((*counted, *scored))}: space {space.name!r} describes no network to score; "
                "name look-ups of your own ('module:object')"
            )

    def columns(self, history: History, allow: Sequence[str] = ()) -> tuple[str, ...]:
        """The names of the quantities: exact costs, scores, look-ups."""
        return tuple(name for source in self._sources(history, allow) for name in source.names)

    def values(self, history: History, architectures: Sequence[Architecture], allow: Sequence[str] = ()) -> FloatArray:
        """Shape (n, columns): larger is better for proxies; NaN, or minus infinity, where there is no score.

        Computed on one thread and kept in `history.cache` by the decisions that a network depends on. (Not by the
        canonical key: equal computations made from their pieces in another order start from other random weights.)
        A proxy that has no score for some networks is named in the log, once.

        Raises:
            NoScores: a proxy has none for these, for any before, nor for `PROBED` random networks.
        """
        return _side_by_side(self._sources(history, allow), architectures)

    def quantities(self, history: History, allow: Sequence[str] = ()) -> Quantities:
        """What a predictor of this history's trials is told; see `predictors.features.knowing`."""
        from predictors.features import Quantities

        return Quantities(self.columns(history, allow), partial(self.values, history, allow=allow))

    def notes(self, history: History, architecture: Architecture, allow: Sequence[str] = ()) -> dict[str, Any]:
        """Attributes of a trial of it: what is known of it, by name; what has no score is left out."""
        (row,) = self.values(history, [architecture], allow).tolist()
        named = zip(self.columns(history, allow), row, strict=True)
        return {"proxies": {name: value for name, value in named if np.isfinite(value)}}

    def _sorted(self, allow: Sequence[str]) -> tuple[list[str], list[str], list[Any]]:
        """The names that are counted, those that are scored, and the look-ups."""
        counted: list[str] = []
        scored: list[str] = []
        looked_up = []
        for name in self.names:
            stated = part(name, "a proxy")
            if ":" not in stated.name:
                (counted if stated.name in EXACT else scored).append(stated.name)
                continue
            found = load_object(stated.name, allow, ours=("predictors.zero_cost",))
            if isinstance(found, type):
                found = found(**stated.settings)
            if hasattr(found, "measure") and hasattr(found, "names"):
                looked_up.append(found)
            elif callable(found):
                scored.append(stated.name)
            else:
                raise ValueError(
                    f"{stated.name!r} must be a function of (network, batch, loss), or have `names` and `measure`; "
                    f"got {type(found).__name__}"
                )
        return counted, scored, looked_up

    def _sources(self, history: History, allow: Sequence[str]) -> Sequence[_Source]:
        stated = {field.name: getattr(self, field.name) for field in fields(self)}
        key = ("untrained", json.dumps(stated, sort_keys=True, default=dict), tuple(allow))
        return history.cached(key, lambda: self._make_sources(history, allow))

    def _make_sources(self, history: History, allow: Sequence[str]) -> Sequence[_Source]:
        self.check(history.space, allow)
        counted, scored, looked_up = self._sorted(allow)
        found = []
        dataset = self._dataset(history, allow) if counted or scored else None
        if counted and dataset is not None:
            found.append(_counting(history.space, dataset, tuple(counted), allow, history.seed))
        if scored and dataset is not None:
            found.append(self._scoring(history, dataset, tuple(scored), allow))
        return [*found, *(_Source(tuple(source.names), source.measure) for source in looked_up)]

    def _dataset(self, history: History, allow: Sequence[str]) -> Dataset:
        from workers.datasets import load_dataset

        given = history.data if self.data is None else part(self.data, "data")
        if given is None:
            raise ValueError(
                "networks are built for data before they can be scored, and the study trains on none; say it: data=…"
            )
        return load_dataset(given.name, allow=allow, **given.settings)

    def _scoring(self, history: History, dataset: Dataset, names: tuple[str, ...], allow: Sequence[str]) -> _Source:
        from nas.scoring import make_scorer

        scorer = make_scorer(
            history.space,
            dataset,
            proxies=names,
            examples=self.examples,
            gaussian=self.gaussian,
            seed=history.seed,
            allow=allow,
            device=self.device,
        )

        def score(architecture: Architecture) -> _Row:
            scores = scorer.scores(architecture)
            return _Row([scores.values[name] for name in names], scores.failures)

        return _Source(names, _Networks(history.space, names, score, history.seed).measured)


def told_by(strategy: Any, history: History) -> Untrained | None:
    """What a strategy tells its predictor of architectures, after this history; None where it tells nothing."""
    told: Callable[[History], Untrained | None] | None = getattr(strategy, "told", None)
    return None if told is None else told(history)


class _Source(NamedTuple):
    """Some of the quantities: n architectures -> shape (n, len(names))."""

    names: tuple[str, ...]
    measure: Measure


@on_one_thread
def _side_by_side(sources: Sequence[_Source], architectures: Sequence[Architecture]) -> FloatArray:
    return np.concatenate([source.measure(architectures) for source in sources], axis=1)


class _Row(NamedTuple):
    """What was found of one network.

    Args:
        values: one for each name; NaN where there is none.
        failures: name -> why there is none.
    """

    values: list[float]
    failures: Mapping[str, str]


def _counting(space: SearchSpace, dataset: Dataset, names: tuple[str, ...], allow: Sequence[str], seed: int) -> _Source:
    from search_spaces.build import BuildError
    from search_spaces.tally import Tally

    tally = Tally(space=space, input_shape=dataset.input_shape, outputs=dataset.outputs, allow=tuple(allow))

    def count(architecture: Architecture) -> _Row:
        try:
            counted = tally.count(architecture)
        except BuildError as error:  # a trial of it fails as well
            return _Row([float("nan")] * len(names), dict.fromkeys(names, str(error)))
        return _Row([float(counted.parameters if name == "parameters" else counted.macs) for name in names], {})

    return _Source(names, _Networks(space, names, count, seed).measured)


class _Networks:
    """What is known of the networks of a space, each measured once.

    Args:
        space: of the networks.
        names: of what is measured.
        measure: one architecture -> its row.
        seed: of the networks that are tried where a name has no value for those that were asked for.
    """

    def __init__(
        self, space: SearchSpace, names: tuple[str, ...], measure: Callable[[Architecture], _Row], seed: int
    ) -> None:
        self._space = space
        self._names = names
        self._measure = measure
        self._seed = seed
        self._known: dict[Architecture, list[float]] = {}
        self._networks: dict[Architecture, Architecture] = {}
        self._valued: set[str] = set()  # names that some network has a value of
        self._reasons: dict[str, str] = {}  # name -> why the first network without a value has none
        self._logged: set[str] = set()

    def measured(self, architectures: Sequence[Architecture]) -> FloatArray:
        """Shape (n, names)."""
        rows = np.empty((len(architectures), len(self._names)))
        for place, architecture in enumerate(architectures):
            rows[place] = self._values(architecture)
        self._check()
        return rows

    def _values(self, architecture: Architecture) -> list[float]:
        from predictors.zero_cost.scorer import network_decisions

        network = self._networks.get(architecture)
        if network is None:
            network = self._networks[architecture] = network_decisions(self._space, architecture)
        if network not in self._known:
            row = self._measure(architecture)
            self._known[network] = row.values
            for name, value in zip(self._names, row.values, strict=True):
                if np.isnan(value):
                    self._reasons.setdefault(name, row.failures[name])
                else:
                    self._valued.add(name)
        return self._known[network]

    def _check(self) -> None:
        """Refuse names that no network has a value of; say in the log which have none for some."""
        from nas.scoring import sample_networks

        probes = sample_networks(self._space, PROBED, self._seed)
        while not self._reasons.keys() <= self._valued:
            probe = next(probes, None)
            if probe is None:
                raise NoScores(
                    self._space.name, {name: why for name, why in self._reasons.items() if name not in self._valued}
                )
            self._values(probe)
        for name in self._reasons.keys() - self._logged:
            logger.warning("%s has no score for some networks, which rank last by it: %s", name, self._reasons[name])
        self._logged.update(self._reasons)
