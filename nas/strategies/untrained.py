"""Untrained: what a strategy may know of architectures before any training: exact costs, zero-cost scores, look-ups."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
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
    from workers.datasets import Dataset

FloatArray = NDArray[np.float64]
Measure = Callable[[Sequence[Architecture]], FloatArray]

EXACT = ("macs", "parameters", "complexity")
"""Proxies that are counted from an architecture's operations, no network being built; the last is another `macs`."""


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
    """

    names: Sequence[str | Mapping[str, Any]]
    data: str | Mapping[str, Any] | None = None
    examples: int = 64
    gaussian: bool = False

    def __post_init__(self) -> None:
        from predictors.zero_cost.catalogue import checked_names

        if isinstance(self.names, str | Mapping) or not isinstance(self.names, Sequence):
            raise ValueError(f"a list of names of proxies is needed, got {self.names!r}")
        checked_names([part(name, "a proxy").name for name in self.names])
        at_least("examples", self.examples, 1)
        if not isinstance(self.gaussian, bool):
            raise ValueError(f"gaussian must be true or false, got {self.gaussian!r}")
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
        """
        return _side_by_side(self._sources(history, allow), architectures)

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
            found.append(_counting(history.space, dataset, tuple(counted), allow))
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
        )

        def score(architecture: Architecture) -> list[float]:
            scores = scorer.scores(architecture).values
            return [scores[name] for name in names]

        return _Source(names, _remembering(history.space, len(names), score))


class _Source(NamedTuple):
    """Some of the quantities: n architectures -> shape (n, len(names))."""

    names: tuple[str, ...]
    measure: Measure


@on_one_thread
def _side_by_side(sources: Sequence[_Source], architectures: Sequence[Architecture]) -> FloatArray:
    return np.concatenate([source.measure(architectures) for source in sources], axis=1)


def _counting(space: SearchSpace, dataset: Dataset, names: tuple[str, ...], allow: Sequence[str]) -> _Source:
    from search_spaces.build import BuildError
    from search_spaces.tally import Tally

    tally = Tally(space=space, input_shape=dataset.input_shape, outputs=dataset.outputs, allow=tuple(allow))

    def count(architecture: Architecture) -> list[float]:
        try:
            counted = tally.count(architecture)
        except BuildError:  # a trial of it fails, and says why
            return [float("nan")] * len(names)
        return [float(counted.parameters if name == "parameters" else counted.macs) for name in names]

    return _Source(names, _remembering(space, len(names), count))


def _remembering(space: SearchSpace, width: int, measure: Callable[[Architecture], list[float]]) -> Measure:
    """One architecture's numbers for many, each network measured once."""
    from predictors.zero_cost.scorer import network_decisions

    known: dict[Architecture, list[float]] = {}
    networks: dict[Architecture, Architecture] = {}

    def measured(architectures: Sequence[Architecture]) -> FloatArray:
        rows = np.empty((len(architectures), width))
        for place, architecture in enumerate(architectures):
            network = networks.get(architecture)
            if network is None:
                network = networks[architecture] = network_decisions(space, architecture)
            if network not in known:
                known[network] = measure(architecture)
            rows[place] = known[network]
        return rows

    return measured
