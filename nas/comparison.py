"""Predictors held against each other on a study's own trials: which of them would have foretold what it found?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas import catalogue
from nas.history import History
from nas.settings import part
from nas.strategies.lessons import lessons
from nas.strategies.untrained import told_by

if TYPE_CHECKING:
    from predictors.features import Quantities
    from predictors.predictor import Posterior, Predictor
    from predictors.quality import Quality
    from search_spaces import Architecture

QUICK = ("gaussian_process", "infinite_width", "random_forest", "gradient_boosting", "path_ensemble", "stacked")
"""Those that are compared unless others are named: a fold takes seconds. The others sample or train networks, and take
up to a minute."""

FEWEST = 3
"""Different architectures: a fit needs two, and one to be judged."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What predictors are asked to foretell. Letter: n trials.

    Args:
        metric: the metric's name.
        architectures: n of them.
        losses: (n,) in the metric's own units, to be minimised.
        folds: each trial is foretold by a fit to the other folds.
    """

    metric: str
    architectures: Sequence[Architecture]
    losses: NDArray[np.float64]
    folds: int


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One predictor's figures.

    Args:
        predictor: its name or path.
        features: what it was told beside the decisions.
        quality: what it foretold; None where it could not be fitted.
        failure: why it could not.
        seconds: fits and beliefs of all folds together.
        diagnostics: how well the fits went by the predictor's own account (R-hat, acceptance), by name: the mean of all
            folds; empty where it gives none.
    """

    predictor: str
    features: tuple[str, ...]
    quality: Quality | None
    failure: str | None
    seconds: float
    diagnostics: Mapping[str, float] = field(default_factory=dict)


def examination(history: History, *, metric: str | None = None, folds: int = 5, most: int = 1000) -> Examination:
    """The trials of a study that predictors are judged by: those that a Bayesian search would learn from.

    Args:
        history: of the study.
        metric: one of the study's, the first unless said.
        folds: of the cross-validation; no more than there are different architectures.
        most: trials at most; see `nas.strategies.lessons.lessons` for which.

    Raises:
        ValueError: an unknown metric, fewer than two folds, or trials that nothing can be judged by: too few different
            architectures, or losses that are all the same.
    """
    names = [known.name for known in history.metrics]
    name = names[0] if metric is None else metric
    if name not in names:
        raise ValueError(f"metric {name!r}: no such metric; the study has {', '.join(names)}")
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise ValueError(f"folds must be a whole number of at least 2, got {folds!r}")
    learnt = lessons(history, most, "none")
    architectures = [history.finished.architecture(position) for position in learnt.positions.tolist()]
    different = len(set(architectures))
    if different < FEWEST:
        raise ValueError(
            f"predictors are judged by completed trials of at least {FEWEST} different architectures, got {different}; "
            "let the search go on first"
        )
    losses = np.ascontiguousarray(learnt.losses[:, names.index(name)])
    if (losses == losses[0]).all():
        value = history.metrics[names.index(name)].sign * losses[0]
        raise ValueError(f"all {len(losses)} completed trials have {name} {value:g}: there is nothing to foretell")
    return Examination(metric=name, architectures=architectures, losses=losses, folds=min(folds, different))


def compare(
    history: History,
    task: Examination,
    predictors: Sequence[str | Mapping[str, Any]] = QUICK,
    *,
    strategy: Any = None,
    allow: Sequence[str] = (),
    watch: Callable[[int], None] | None = None,
) -> list[Compared]:
    """Cross-validate predictors on the same folds; those that rank best stand first, those that failed last.

    Args:
        history: of the study.
        task: of `examination`.
        predictors: names, ``module:object`` paths, or tables of one and settings.
        strategy: the study's; what its predictor is told of architectures (`features`) these are told too, but for
            those that can be told nothing.
        allow: packages beside ours that they may be imported from.
        watch: told how many folds are done, of ``len(predictors) * task.folds``.

    Raises:
        ValueError: a name or a setting that there is not, before anything is fitted.
    """
    named = [part(given, "predictor") for given in predictors]
    made = [
        catalogue.load("predictor", each.name, each.settings, allow=allow, given={"space": history.space})
        for each in named
    ]
    more = _told(strategy, history, allow)
    found = []
    for place, (each, predictor) in enumerate(zip(named, made, strict=True)):

        def told(fold: int, before: int = place * task.folds) -> None:
            if watch is not None:
                watch(before + fold)

        knows, features = _knowing(predictor, more)
        found.append(_examined(each.name, features, _Watched(knows, told), task, history.seed))
        told(task.folds)
    return sorted(found, key=_standing)


def _told(strategy: Any, history: History, allow: Sequence[str]) -> Quantities | None:
    """What a strategy's predictor is told of architectures; None for a strategy that tells nothing, or has none."""
    features = told_by(strategy, history)
    return None if features is None else features.quantities(history, allow)


def _knowing(predictor: Predictor, more: Quantities | None) -> tuple[Predictor, tuple[str, ...]]:
    """The predictor told more, if it can be, and the names of what it was told."""
    from predictors.features import knowing

    if more is None:
        return predictor, ()
    try:
        return knowing(predictor, more), more.names
    except ValueError:  # it takes none, which its figures say
        return predictor, ()


def _examined(name: str, features: tuple[str, ...], predictor: _Watched, task: Examination, seed: int) -> Compared:
    from predictors.quality import cross_validated

    rng = np.random.default_rng(seed)  # the same folds for all
    quality, failure, began = None, None, time.perf_counter()
    try:
        quality = cross_validated(predictor, task.architectures, task.losses, rng, task.folds)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:  # it says nothing about the others
        failure = f"{type(error).__name__}: {error}"
    return Compared(
        predictor=name,
        features=features,
        quality=quality,
        failure=failure,
        seconds=time.perf_counter() - began,
        diagnostics=predictor.diagnostics,
    )


def _standing(compared: Compared) -> tuple[bool, float]:
    tau = float("nan") if compared.quality is None else compared.quality.kendall_tau
    return compared.quality is None, float("inf") if np.isnan(tau) else -tau


class _Watched:
    """A predictor that says how often it was fitted before."""

    def __init__(self, predictor: Predictor, told: Callable[[int], None]) -> None:
        self._predictor = predictor
        self._told = told
        self._fits = 0
        self._told_by_fits: list[Mapping[str, float]] = []

    @property
    def diagnostics(self) -> dict[str, float]:
        """The mean of what the fits' posteriors say of themselves, by name."""
        names = sorted({name for told in self._told_by_fits for name in told})
        return {name: float(np.mean([told[name] for told in self._told_by_fits if name in told])) for name in names}

    def fit(self, architectures: Sequence[Architecture], losses: NDArray[np.float64]) -> Posterior:
        """See `Predictor.fit`."""
        if self._fits:
            self._told(self._fits)
        self._fits += 1
        posterior = self._predictor.fit(architectures, losses)
        self._told_by_fits.append(getattr(posterior, "diagnostics", {}))
        return posterior
