"""draws: what chains of positions say about functions."""

from __future__ import annotations

import torch
from torch import Tensor

from predictors.bayesian_network.convergence import split_r_hat
from predictors.bayesian_network.functions import Functions
from predictors.bayesian_network.log_posterior import LogPosterior

_POINTS_COMPARED = 100
"""R-hat looks at the function at so many of the trials: weights have many equal places, functions do not."""


def largest_r_hat(posterior: LogPosterior, draws: Tensor) -> float:
    """Of the function at some of the trials and of the noise; `draws` has shape (draws, chains, width)."""
    count, chains, width = draws.shape
    flat = draws.reshape(-1, width)
    rows = torch.linspace(0, len(posterior.x) - 1, min(len(posterior.x), _POINTS_COMPARED)).long()
    compared = torch.cat(
        [posterior.outputs_of(flat, posterior.x[rows]), posterior.noise_of(flat).log()[:, None]], dim=1
    )
    return float(split_r_hat(compared.reshape(count, chains, -1)).max())


def functions_of(posterior: LogPosterior, draws: Tensor, kept: int) -> Functions:
    """The functions of at most `kept` of the draws, shape (draws, chains, width), evenly spread over every chain."""
    flat = draws.transpose(0, 1).reshape(-1, draws.shape[-1])  # chain by chain: a stride may be in step with the chains
    chosen = flat[torch.linspace(0, len(flat) - 1, min(kept, len(flat))).long()]
    noise = posterior.noise_of(chosen)
    return Functions(
        outputs=lambda points: (
            posterior.outputs_of(chosen, points),
            noise[:, None].expand(-1, len(points)),
        ),
        count=len(chosen),
        noise=float(noise.mean()),
    )
