"""gaussian: functions whose values are jointly Gaussian, and what they are once some values were seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from predictors.predictor import PredictorError

_POINTS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class GaussianFunction:
    """A Gaussian process, before or after data.

    Args:
        mean: points, shape (m, d) -> (m,).
        covariance: points, (a, d) and (b, d) -> (a, b).
        variance: points, (m, d) -> (m,), the diagonal of their covariance.
        noise: variance of an evaluation around the function.
        before: the function before any data, and the data; None if this is it.
    """

    mean: Callable[[Tensor], Tensor]
    covariance: Callable[[Tensor, Tensor], Tensor]
    variance: Callable[[Tensor], Tensor]
    noise: float
    before: tuple[GaussianFunction, Tensor, Tensor] | None = None

    def condition(self, x: Tensor, y: Tensor) -> GaussianFunction:
        """The function after noisy evaluations `y`, shape (n,), at `x`, shape (n, d).

        Source: Rasmussen, Williams, "Gaussian Processes for Machine Learning" (2006), algorithm 2.1.
        """
        if self.before is not None:  # all data at once: each layer of closures would ask the one below three times
            prior, known, told = self.before
            return prior.condition(torch.cat([known, x]), torch.cat([told, y]))
        root = cholesky(self.covariance(x, x) + self.noise * torch.eye(len(x), dtype=x.dtype))
        weights = torch.cholesky_solve((y - self.mean(x))[:, None], root)[:, 0]

        def explained(points: Tensor) -> Tensor:
            found: Tensor = torch.linalg.solve_triangular(root, self.covariance(x, points), upper=False)
            return found

        def variance(points: Tensor) -> Tensor:
            return (self.variance(points) - explained(points).square().sum(0)).clamp(min=0.0)

        return GaussianFunction(
            mean=lambda points: self.mean(points) + self.covariance(points, x) @ weights,
            covariance=lambda a, b: self.covariance(a, b) - explained(a).mT @ explained(b),
            variance=variance,
            noise=self.noise,
            before=(self, x, y),
        )

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance and noise at m points, each (m,)."""
        parts = torch.split(x, _POINTS_AT_ONCE)
        mean = torch.cat([self.mean(part) for part in parts])
        variance = torch.cat([self.variance(part) for part in parts])
        return mean, variance, torch.full_like(mean, self.noise)

    def sample(self, x: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        """Jointly drawn values at m points: shape (count, m)."""
        matrix = self.covariance(x, x)
        # not by Cholesky, which would have to move the diagonal where points are equal
        values, vectors = torch.linalg.eigh(0.5 * (matrix + matrix.mT))
        root: Tensor = vectors * values.clamp(min=0.0).sqrt()
        return self.mean(x) + torch.from_numpy(rng.standard_normal((count, len(x)))) @ root.mT


def mixture(functions: Sequence[GaussianFunction]) -> GaussianFunction:
    """What several functions, each as likely as the others, are together: their moments, Gaussian again."""
    if len(functions) == 1:
        return functions[0]

    def means(points: Tensor) -> Tensor:
        return torch.stack([function.mean(points) for function in functions])

    def apart(points: Tensor) -> Tensor:
        each = means(points)
        return (each - each.mean(0)) / math.sqrt(len(functions))

    def covariance(a: Tensor, b: Tensor) -> Tensor:
        within = torch.stack([function.covariance(a, b) for function in functions]).mean(0)
        found: Tensor = within + apart(a).mT @ apart(b)
        return found

    def variance(points: Tensor) -> Tensor:
        within = torch.stack([function.variance(points) for function in functions]).mean(0)
        return within + apart(points).square().sum(0)

    return GaussianFunction(
        mean=lambda points: means(points).mean(0),
        covariance=covariance,
        variance=variance,
        noise=sum(function.noise for function in functions) / len(functions),
    )


def cholesky(matrix: Tensor) -> Tensor:
    """The lower Cholesky factor; a little is added to the diagonal where rounding has made a matrix indefinite.

    Raises:
        PredictorError: a hundredth of the mean of the diagonal was not enough.
    """
    size = float(matrix.detach().diagonal().mean())
    root: Tensor
    for jitter in (0.0, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2):
        root, failed = torch.linalg.cholesky_ex(matrix + jitter * size * torch.eye(len(matrix), dtype=matrix.dtype))
        if not failed:
            return root
    raise PredictorError(
        f"the covariance of {len(matrix)} trials is not positive definite, not even with {1e-2 * size:.3g} added to "
        "its diagonal; the kernel is no kernel, or its values are not finite"
    )


def negative_log_marginal(gram: Tensor, y: Tensor) -> Tensor:
    """Minus the log density of `y`, shape (n,), under a normal of mean 0 and covariance `gram`; per trial."""
    root = cholesky(gram)
    whitened: Tensor = torch.linalg.solve_triangular(root, y[:, None], upper=False)
    constant = 0.5 * len(y) * float(np.log(2.0 * np.pi))
    return (0.5 * whitened.square().sum() + root.diagonal().log().sum() + constant) / len(y)
