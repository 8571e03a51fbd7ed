"""Learning rates over the course of training, as plain functions of the share of steps that are done."""

from __future__ import annotations

import math

from workers.training.settings import TrainingSettings

ONE_CYCLE_START = 25.0
"""One cycle starts at the largest learning rate divided by this …"""
ONE_CYCLE_END = 1e4
"""… and ends at its start divided by this. Both are PyTorch's defaults for OneCycleLR."""
ONE_CYCLE_WARMUP = 0.3


def learning_rate_at(settings: TrainingSettings, step: float, steps: int) -> float:
    """The learning rate of one step.

    * constant: the learning rate, after a linear warm-up.
    * cosine: from the learning rate down to 0 along half a cosine, after a linear warm-up. Step t of T without warm-up
      gets ``learning_rate (1 + cos(pi t / T)) / 2``. Source: Loshchilov & Hutter 2017 (SGDR), equation 5, one period.
    * one_cycle: up and down along half cosines. Source: Smith & Topin 2018, in PyTorch's two-phase form.
      Differs: momentum stays where it is.

    Args:
        settings: learning_rate, schedule and warmup are read.
        step: 0 … steps - 1; between two of them where an epoch has fewer than the others.
        steps: of the whole training.
    """
    peak = settings.learning_rate
    if settings.schedule == "one_cycle":
        # PyTorch's convention: the first step is at the start, the last one at the end
        rise = (settings.warmup or ONE_CYCLE_WARMUP) * steps - 1
        start = peak / ONE_CYCLE_START
        if step <= rise:
            return _half_cosine(start, peak, step / rise if rise > 0 else 1.0)
        fall = steps - 1 - rise
        return _half_cosine(peak, start / ONE_CYCLE_END, (step - rise) / fall if fall > 0 else 1.0)
    warm_up = settings.warmup * steps
    if step < warm_up:
        return peak * min(1.0, (step + 1) / warm_up)
    if settings.schedule == "constant":
        return peak
    return _half_cosine(peak, 0.0, (step - warm_up) / (steps - warm_up))


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
