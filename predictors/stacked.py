"""stacked: several predictors, each weighed by how well it foretold the trials it had not seen.

Letters: k members, n trials, m architectures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax

from predictors.predictor import Belief, Posterior, Predictor, checked_losses, checked_trials
from predictors.quality import fold_numbers
from predictors.settings import check_counts, check_not_negative, check_seed
from predictors.warping import Warp, learn_warp
from search_spaces.architecture import Architecture
from search_spaces.loading import PLUG_INS, load_object
from search_spaces.space import SearchSpace

FloatArray = NDArray[np.float64]

FEWEST = 6
"""Of fewer different architectures nothing is foretold: members weigh the same."""


@dataclass(frozen=True)
class Stacked:
    """A mixture whose weights make the left-out losses most likely, so that a poor member costs little.

    What a member says about a trial without it comes from the member itself where it knows (in closed form, out of
    bag), else from fits to the other folds. A member that is surer than its errors allow is widened until it is not.
    Draws of the posterior are draws of a member, each as often as it weighs.

    Source: Yao, Vehtari, Simpson, Gelman, "Using Stacking to Average Bayesian Predictive Distributions", 2018.
    Differs: what is made likely is the normal with the mixture's mean and variance, which is what is predicted: so
    members whose errors cancel weigh together what neither would alone. And the weights have a Dirichlet prior.

    Args:
        space: of the architectures.
        members: modules of `predictors` (their predictor with its defaults), tables of such a module's name and of
            settings, or predictors of the same space. A class of one's own is named ``module:Class`` and imported by
            `allowing`, from what whoever runs the study allows: a stored study cannot allow itself anything.
        folds: for members that do not know what they would say without a trial.
        prior: of the weights, a Dirichlet distribution with the parameters 1 + prior: members that foretell trials
            about equally well weigh about the same, while trials are few. 0 leaves the weights to the trials.
        seed: of the folds.
    """

    space: SearchSpace
    members: tuple[str | Mapping[str, Any] | Predictor, ...] = (
        "gaussian_process",
        "random_forest",
        "gradient_boosting",
    )
    _: KW_ONLY
    folds: int = 5
    prior: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_counts(2, folds=self.folds)
        check_not_negative(prior=self.prior)
        if not isinstance(self.members, Sequence) or not self.members or isinstance(self.members, str):
            raise ValueError(f"members: a list of at least one predictor, got {self.members!r}")
        object.__setattr__(
            self,
            "members",
            tuple(
                _made(member, self.space) if isinstance(member, str | Mapping) and not _path(member) else member
                for member in self.members
            ),
        )

    def allowing(self, allow: Sequence[str]) -> Stacked:
        """The same with the members that were named by a path, from `predictors` or these packages."""
        return replace(
            self,
            members=tuple(
                _loaded(member, self.space, allow) if isinstance(member, str | Mapping) else member
                for member in self.members
            ),
        )

    def fit(self, architectures: Sequence[Architecture], losses: FloatArray) -> StackedPosterior:
        """See `Predictor.fit`."""
        waiting = [member for member in self.members if isinstance(member, str | Mapping)]
        if waiting:
            raise ValueError(f"members: {waiting[0]!r} is imported by `allowing`, which says from where it may be")
        values = checked_trials(self.space, architectures, losses)
        warp = learn_warp("ranks", values)
        scores = warp.forward(values)
        members: list[Predictor] = [member for member in self.members if not isinstance(member, str | Mapping)]
        posteriors = [member.fit(architectures, scores) for member in members]
        weights, widths = np.full(len(members), 1.0 / len(members)), np.ones(len(members))
        if len(set(architectures)) >= FEWEST and not (values == values[0]).all():
            told = [
                self._left_out(member, posterior, architectures, scores)
                for member, posterior in zip(members, posteriors, strict=True)
            ]
            means = np.stack([belief.mean for belief in told])
            variances = np.maximum(np.stack([belief.variance for belief in told]), LEAST_VARIANCE)
            widths = np.maximum(((scores - means) ** 2 / variances).mean(axis=1), 1.0)
            weights = stacking_weights(means, variances * widths[:, None], scores, self.prior)
        return StackedPosterior(
            predictors=tuple(members),
            members=tuple(posteriors),
            weights=weights,
            widths=widths,
            warp=warp,
            architectures=tuple(architectures),
            scores=scores,
        )

    def _left_out(
        self, member: Predictor, posterior: Posterior, architectures: Sequence[Architecture], scores: FloatArray
    ) -> Belief:
        known: Belief | None = getattr(posterior, "left_out", None)
        if known is not None:
            return known
        fold_of, folds = fold_numbers(architectures, self.folds, np.random.default_rng(self.seed))
        means, variances = np.empty(len(scores)), np.empty(len(scores))
        for fold in range(folds):
            seen, unseen = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            fitted = member.fit([architectures[place] for place in seen.tolist()], scores[seen])
            belief = fitted.predict([architectures[place] for place in unseen.tolist()])
            means[unseen], variances[unseen] = belief.mean, belief.variance + fitted.noise
        return Belief(means, variances)


LEAST_VARIANCE = 1e-6
"""Of a belief, in units of the scores' variance."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StackedPosterior:
    """The mixture.

    Args:
        predictors: what the members were fitted by.
        members: posteriors of scores.
        weights: shape (k,), not negative, their sum 1.
        widths: shape (k,), at least 1: what each member's variances are multiplied by.
        warp: from losses to scores.
        architectures: n, of the trials.
        scores: shape (n,), of the trials.
    """

    predictors: tuple[Predictor, ...]
    members: tuple[Posterior, ...]
    weights: FloatArray
    widths: FloatArray
    warp: Warp
    architectures: tuple[Architecture, ...]
    scores: FloatArray

    @property
    def noise(self) -> float:
        """See `Posterior.noise`: the members' mean by weight, at the median trial."""
        noises = np.array([member.noise for member in self.members])
        return self.warp.noise(self.scores, float(self.weights @ (noises * self.widths)))

    def predict(self, architectures: Sequence[Architecture]) -> Belief:
        """See `Posterior.predict`."""
        return self.warp.belief(*moments(self.weights, *self._told(architectures)))

    def log_improvement(self, architectures: Sequence[Architecture], best: float) -> FloatArray:
        """See `WarpedPosterior.log_improvement`: the members' by weight, each one's scores being normal."""
        return self._together(
            self.warp.log_improvement(mean, variance, best)
            for mean, variance in zip(*self._told(architectures), strict=True)
        )

    def log_probability_below(self, architectures: Sequence[Architecture], limit: float) -> FloatArray:
        """See `WarpedPosterior.log_probability_below`: likewise."""
        return self._together(
            self.warp.log_probability_below(mean, variance, limit)
            for mean, variance in zip(*self._told(architectures), strict=True)
        )

    def _together(self, logs: Iterable[FloatArray]) -> FloatArray:
        """The logarithm of the members' mean by weight."""
        with np.errstate(divide="ignore"):  # a weight may be 0; as factors of logsumexp tiny ones overflow
            shares = np.log(self.weights)[:, None]
        found: FloatArray = logsumexp(shares + np.stack(list(logs)), axis=0)
        return found

    def _told(self, architectures: Sequence[Architecture]) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the scores as each member believes: shapes (k, m)."""
        beliefs = [member.predict(architectures) for member in self.members]
        means = np.stack([belief.mean for belief in beliefs])
        return means, np.stack([belief.variance for belief in beliefs]) * self.widths[:, None]

    def sample(self, architectures: Sequence[Architecture], count: int, rng: np.random.Generator) -> FloatArray:
        """See `Posterior.sample`: jointly where the member's own draws are."""
        chosen = rng.choice(len(self.members), size=count, p=self.weights)
        seeds = rng.integers(2**63, size=len(self.members))  # a member's draws do not depend on those of the others
        drawn = np.empty((count, len(architectures)))
        for place, member in enumerate(self.members):
            rows = np.flatnonzero(chosen == place)
            if len(rows):
                mean = member.predict(architectures).mean
                away = member.sample(architectures, len(rows), np.random.default_rng(seeds[place])) - mean
                drawn[rows] = mean + np.sqrt(self.widths[place]) * away
        return self.warp.inverse(drawn)

    def condition(self, architectures: Sequence[Architecture], losses: FloatArray) -> StackedPosterior:
        """The mixture after more trials, for fantasies: its weights, widths and warp stay.

        A member that can be conditioned is; another is fitted once to all trials, not fold by fold.
        """
        if not len(architectures):
            return self
        more = self.warp.forward(checked_losses(architectures, losses))
        trials, scores = (*self.architectures, *architectures), np.append(self.scores, more)

        def conditioned(predictor: Predictor, member: Posterior) -> Posterior:
            condition = getattr(member, "condition", None)
            if condition is None:
                return predictor.fit(trials, scores)
            found: Posterior = condition(architectures, more)
            return found

        members = tuple(map(conditioned, self.predictors, self.members))
        return replace(self, members=members, architectures=trials, scores=scores)


def stacking_weights(means: FloatArray, variances: FloatArray, scores: FloatArray, prior: float = 0.0) -> FloatArray:
    """The weights, shape (k,), under which the mean and variance of a mixture of beliefs make n scores most likely.

    Args:
        means: shape (k, n).
        variances: shape (k, n), above 0.
        scores: shape (n,).
        prior: of a Dirichlet distribution with the parameters 1 + prior.
    """

    def improbability(powers: FloatArray) -> float:
        logs = log_softmax(powers)
        mean, variance = moments(np.exp(logs), means, variances)
        return float(0.5 * (np.log(variance) + (scores - mean) ** 2 / variance).sum() - prior * logs.sum())

    weights: FloatArray = softmax(minimize(improbability, np.zeros(len(means)), method="L-BFGS-B").x)
    return weights


def moments(weights: FloatArray, means: FloatArray, variances: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and variance, shape (n,), of a mixture of k beliefs, shapes (k, n)."""
    mean = weights @ means
    return mean, weights @ (variances + (means - mean) ** 2)


def _named(stated: str | Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The name and the settings."""
    settings = {} if isinstance(stated, str) else dict(stated)
    return (stated if isinstance(stated, str) else settings.pop("name", None)), settings


def _path(stated: str | Mapping[str, Any]) -> bool:
    """Whether this names a class by a path."""
    name, _ = _named(stated)
    return isinstance(name, str) and ":" in name


def _loaded(stated: str | Mapping[str, Any], space: SearchSpace, allow: Sequence[str]) -> Predictor:
    """The predictor of a class that is named by a path."""
    name, settings = _named(stated)
    found = load_object(name, allow, ours=PLUG_INS["predictor"])
    if not isinstance(found, type) or found is Stacked or not callable(getattr(found, "fit", None)):
        raise ValueError(f"members: {name!r} must be a class with a method `fit`, and not stacked itself")
    return _with_settings(found, name, space, settings)


def _made(stated: str | Mapping[str, Any], space: SearchSpace) -> Predictor:
    name, settings = _named(stated)
    try:
        module = import_module(f"predictors.{name}")
        found = getattr(module, "".join(word.capitalize() for word in str(name).split("_")))
    except (ModuleNotFoundError, AttributeError):
        found = None
    if found is None or found is Stacked:
        raise ValueError(
            f"members: no predictor is called {name!r}; allowed are the modules of `predictors` that hold one, such as "
            "gaussian_process and random_forest, but not stacked; your own is named 'module:Class'"
        )
    return _with_settings(found, name, space, settings)


def _with_settings(found: Any, name: str, space: SearchSpace, settings: Mapping[str, Any]) -> Predictor:
    try:
        made: Predictor = found(space, **settings)
    except TypeError as error:
        raise ValueError(f"members: {name!r}: {error}") from error
    return made
