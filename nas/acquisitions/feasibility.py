"""Feasibility: how likely a candidate keeps all limits, and runs at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import log_ndtr

from nas.acquisitions.acquisition import Acquisition, FloatArray, Outlook, log_probability_below
from predictors.predictor import Posterior
from search_spaces.architecture import Architecture

FAILED, RAN = 1.0, 0.0
"""What is learnt of a trial's end; a candidate is expected to run where less than the half between is believed."""


def log_probability_feasible(
    outlook: Outlook, limits: FloatArray, failures: Posterior | None, candidates: Sequence[Architecture]
) -> FloatArray:
    """(c,) the logarithm of the probability that all limits are kept and the trial does not fail.

    Metrics and failures count as independent of each other.

    Args:
        outlook: its posteriors.
        limits: (m,) the largest losses that are allowed; infinity where that is no matter.
        failures: learnt from `FAILED` and `RAN`; None where nothing has failed.
        candidates: c of them.

    Source: Gardner et al. 2014, "Bayesian Optimization with Inequality Constraints"; a regression on the outcome of
    trials, cut at its middle, for what fails, as in Gelbart, Snoek, Adams 2014, "Bayesian Optimization with Unknown
    Constraints" (there a latent function of its own).
    """
    total = np.zeros(len(candidates))
    for posterior, limit, scale in zip(outlook.posteriors, limits, outlook.scales, strict=True):
        if np.isfinite(limit):
            total += log_probability_below(posterior, candidates, float(limit), float(scale))
    if failures is not None:
        belief = failures.predict(candidates)
        # a new trial of its kind may fail where the last one ran: what varies from trial to trial counts too
        sd = np.sqrt(np.maximum(belief.variance + failures.noise, 1e-4))
        total += log_ndtr(((FAILED + RAN) / 2 - belief.mean) / sd)
    return total


def combined(acquisition: Acquisition, scores: FloatArray, log_feasible: FloatArray) -> FloatArray:
    """(c,) scores that take feasibility into account.

    What is gained is multiplied by its probability. Where the score is a loss, candidates that are feasible rather than
    not come before all others, which follow by their probability.
    """
    if acquisition.scale == "log":
        return scores + log_feasible
    likely = log_feasible >= np.log(0.5)
    if likely.all():
        return scores
    lowest = scores[likely].min(initial=0.0)
    return np.where(likely, scores, lowest - 1.0 + log_feasible)
