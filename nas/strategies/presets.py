"""Presets: Bayesian strategies by their papers' names. Each is `Bayesian` with other defaults.

Only `Auto` decides something as well: when the predictor is told zero-cost scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from nas.history import History
from nas.strategies.bayesian import Bayesian, Named
from nas.strategies.untrained import Untrained

MEAN: Mapping[str, Any] = MappingProxyType({"name": "upper_confidence_bound", "width": 0.0})
"""The acquisition that takes a predictor by its word."""

TREES: Mapping[str, Any] = {"name": "random_forest", "trees": 30}
"""A forest that is fitted in a tenth of a second; of many trees it is the last few that tell least."""

STACK: Mapping[str, Any] = {"name": "stacked", "members": ["gaussian_process", TREES]}


@dataclass(frozen=True, kw_only=True)
class Bananas(Bayesian):
    """BANANAS: an ensemble of networks over paths, independent Thompson sampling, mutations of the best.

    Source: White, Neiswanger, Savani 2021, "BANANAS: Bayesian Optimization with Neural Architectures for Neural
    Architecture Search", AAAI 2021.
    Differs: the networks read sub-trees and decisions beside the paths (the paper's encoding is `features=paths`); of
    the candidates a fifth are random, and some are two mutations away.
    """

    predictor: Named = field(default="path_ensemble", hash=False)
    design: Literal["latin_hypercube", "random"] = "random"
    usual: ClassVar[Named] = "independent_thompson"


@dataclass(frozen=True, kw_only=True)
class NasBowl(Bayesian):
    """NAS-BOWL: a Gaussian process with the Weisfeiler-Lehman kernel, expected improvement, mutations of the best.

    Source: Ru, Wan, Dong, Osborne 2021, "Interpretable Neural Architecture Search via Bayesian Optimisation with
    Weisfeiler-Lehman Kernels", ICLR 2021.
    Differs: losses are learnt as normal quantiles of their ranks, not as logarithms; the kernel reads paths and
    decisions beside the sub-trees, which are of one depth; expected improvement is on the best posterior mean.
    """

    design: Literal["latin_hypercube", "random"] = "random"


@dataclass(frozen=True, kw_only=True)
class BoshNas(Bayesian):
    """BOSHNAS: networks that tell what they do not know from noise, a confidence bound, ascent to where it is best.

    Source: Tuli, Dedhia, Tuli, Jha 2023, "FlexiBERT: Are Current Transformer Architectures too Homogeneous and Rigid?",
    section 3.3 (Bayesian Optimization using Second-Order Gradients and Heteroscedastic Models).
    Differs: one deep ensemble of Gaussian heads stands for the paper's three networks: its heads' variances for the
    natural-parameter network, the spread of its members for the teacher with Monte Carlo dropout, and there is no
    student, since that spread needs none. Its bound counts the spread alone, not the noise. The ascent goes from
    neighbour to neighbour of the architectures themselves, from several starts, where the paper follows second-order
    gradients in an embedding and takes the architecture nearest to where they end. (Where decisions are real numbers,
    candidates "gradient" are nearer to the paper.)
    """

    predictor: Named = field(default="deep_ensemble", hash=False)
    candidates: Named = field(default="climb", hash=False)
    design: Literal["latin_hypercube", "random"] = "random"
    usual: ClassVar[Named] = "upper_confidence_bound"


@dataclass(frozen=True, kw_only=True)
class WeakNas(Bayesian):
    """WeakNAS: a line of weak predictors, each from what was tried where the one before it saw the best.

    Boosted trees are fitted again whenever a trial has finished; what is tried is any of the candidates that they rank
    among the best. The trials gather where losses are small, so that the predictors become true there.

    Source: Wu, Dai, Chen, Chen, Liu, Yu, Wang, Liu, Chen, Yuan 2021, "Stronger NAS with Weaker Predictors", NeurIPS
    2021, section 3 (its gradient boosted trees).
    Differs: a round is one trial, not a batch; in place of all architectures of a small space, or a sampled part of a
    large one, a fresh shortlist is drawn for each trial, half of it around the best ones.
    """

    predictor: Named = field(default="gradient_boosting", hash=False)
    candidates: Named = field(default="shortlist", hash=False)
    design: Literal["latin_hypercube", "random"] = "random"
    usual: ClassVar[Named] = MEAN


@dataclass(frozen=True, kw_only=True)
class Auto(Bayesian):
    """What a search does when nobody says how: nothing in it was chosen for one space or one table.

    A Gaussian process and a random forest, each believed as far as it foretold the trials that it had not seen, so that
    whichever suits the space is listened to. Noise is learnt along, and improvement is expected on what is believed to
    be best, not on the luckiest measurement. (Noisy expected improvement, which draws both, took more trials to the
    best cells of NAS-Bench-201.) Of several metrics the improvement is that of the hypervolume, or of random
    scalarisations. The first `initial` trials are a Latin hypercube. It never falls back to another strategy: of more
    than `most` trials it goes on to learn from that many, the best and the youngest; what is drawn at random is said in
    `Bayesian`.

    For trials that take less than the tenths of a second of a proposal, `regularized_evolution` gets more done.
    """

    predictor: Named = field(default_factory=lambda: dict(STACK), hash=False)
    most: int = 500

    def told(self, history: History) -> Untrained | None:
        """See `Bayesian.told`."""
        if self.features is not None or self.predictor != STACK:
            return super().told(history)
        from nas.strategies.affordable import affordable

        return affordable(history, self._allow)
