"""Bayesian optimisation with Bayesian neural networks, beside a GP: four problems of Li, Rudner, Wilson (ICLR 2024).

    python benchmarks/bnn_optimisation.py [--problem ackley] [--method infinite_width] [--seeds 20] [--evaluations 60]

Problems, all maximised over the unit cube, rebuilt from their formulas: Ackley in 10 dimensions (on [-10, 15]^10, its
optimum off the centre); Branin; Hartmann in 6 dimensions; a network with random weights in 100. Every method starts
with the same Latin hypercube of --initial points, then takes the point of largest expected improvement among 1,000
uniform points and 200 near each of the five best, the same recipe for all. `gp` is BoTorch's SingleTaskGP with its own
defaults. Printed is the best value found, mean and standard error over seeds; expected by the paper: infinite_width and
gp ahead, deep_ensemble last or near. The two costly samplers take part with --method hmc, --method sghmc.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from results import save
from scipy.stats import norm, qmc

from predictors.deep_ensemble import DeepEnsemble
from predictors.deep_kernel import DeepKernel
from predictors.hmc import Hmc
from predictors.infinite_width import InfiniteWidth
from predictors.laplace import Laplace
from predictors.sghmc import Sghmc
from search_spaces.nodes import Float
from search_spaces.space import SearchSpace


def ackley(x: np.ndarray) -> np.ndarray:
    """Largest value 0. Ackley (1987)."""
    z = -10.0 + 25.0 * x
    return (
        20.0 * np.exp(-0.2 * np.sqrt(np.mean(z**2, axis=1)))
        + np.exp(np.mean(np.cos(2 * np.pi * z), axis=1))
        - 20.0
        - np.e
    )


def branin(x: np.ndarray) -> np.ndarray:
    """Largest value -0.3979. Branin (1972)."""
    a, b = 15.0 * x[:, 0] - 5.0, 15.0 * x[:, 1]
    curve = b - 5.1 / (4 * np.pi**2) * a**2 + 5 / np.pi * a - 6
    return -(curve**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10)


HEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
NARROWNESS = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
CENTRES = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann(x: np.ndarray) -> np.ndarray:
    """Largest value 3.32237. Hartmann (1973)."""
    return np.exp(-(NARROWNESS * (x[:, None, :] - CENTRES) ** 2).sum(2)) @ HEIGHTS


def network(x: np.ndarray) -> np.ndarray:
    """One draw of a tanh network with two hidden layers of 100 units and standard normal weights, on [-1, 1]^d."""
    rng, values = np.random.default_rng(0), 2.0 * x - 1.0
    for units in (100, 100):
        values = np.tanh(values @ rng.standard_normal((values.shape[1], units)) / values.shape[1] ** 0.5)
    found: np.ndarray = values @ rng.standard_normal(values.shape[1])
    return found


PROBLEMS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "ackley": (ackley, 10),
    "branin": (branin, 2),
    "hartmann": (hartmann, 6),
    "network": (network, 100),
}
METHODS = ("random", "gp", "infinite_width", "laplace", "deep_kernel", "deep_ensemble", "hmc", "sghmc")
USUAL = METHODS[:6]


def believe(
    method: str, x: np.ndarray, losses: np.ndarray, seed: int, asked: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the losses at the points asked about."""
    if method == "gp":
        return believe_gp(x, losses, asked)
    space = SearchSpace({f"x{index}": Float(0.0, 1.0) for index in range(x.shape[1])}, "numbers")
    predictor = {
        "infinite_width": InfiniteWidth(space, seed=seed),
        "laplace": Laplace(space, starts=1, seed=seed),
        "deep_kernel": DeepKernel(space, seed=seed),
        "deep_ensemble": DeepEnsemble(space, seed=seed),
        "hmc": Hmc(space, seed=seed),
        "sghmc": Sghmc(space, seed=seed),
    }[method]
    found = predictor.regress(x, losses).predict(asked)
    return found.mean, np.sqrt(found.variance)


def believe_gp(x: np.ndarray, losses: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same by BoTorch."""
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = SingleTaskGP(torch.tensor(x), torch.tensor(losses)[:, None])
        fit_gpytorch_mll(ExactMarginalLogLikelihood(peer.likelihood, peer))
        with torch.no_grad():
            posterior = peer.posterior(torch.tensor(asked))
    return posterior.mean[:, 0].numpy(), posterior.variance[:, 0].sqrt().numpy()


def best_found(method: str, problem: str, seed: int, initial: int, evaluations: int) -> float:
    """The largest value after so many evaluations."""
    function, inputs = PROBLEMS[problem]
    rng = np.random.default_rng([2024, seed])
    x = qmc.LatinHypercube(inputs, rng=rng).random(initial)
    y = function(x)
    while len(y) < evaluations:
        near = x[np.argsort(-y)[:5]].repeat(200, axis=0)
        steps = rng.choice([0.01, 0.05, 0.2], size=(len(near), 1)) * rng.standard_normal(near.shape)
        asked = np.concatenate([rng.random((1000, inputs)), np.clip(near + steps, 0.0, 1.0)])
        if method == "random":
            chosen = asked[0]
        else:
            mean, deviation = believe(method, x, -y, seed, asked)
            gain = -y.max() - mean
            z = gain / np.maximum(deviation, 1e-12)
            chosen = asked[np.argmax(gain * norm.cdf(z) + deviation * norm.pdf(z))]
        x, y = np.vstack([x, chosen]), np.append(y, function(chosen[None]))
    return float(y.max())


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", choices=list(PROBLEMS), action="append", dest="problems")
    parser.add_argument("--method", choices=METHODS, action="append", dest="methods")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--initial", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--save", type=Path, help="append the lines to this file, with date and machine")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for problem in arguments.problems or PROBLEMS:
        for method in arguments.methods or USUAL:
            began = time.process_time()
            found = [
                best_found(method, problem, seed, arguments.initial, arguments.evaluations)
                for seed in range(arguments.seeds)
            ]
            error = np.std(found, ddof=1) / np.sqrt(len(found)) if len(found) > 1 else np.nan
            seconds = (time.process_time() - began) / len(found)
            lines.append(
                f"{problem:10} {method:15} best {np.mean(found):8.4f} ± {error:6.4f}  seeds {len(found):2}  "
                f"evaluations {arguments.evaluations}  {seconds:6.1f} s/seed"
            )
            print(lines[-1], flush=True)
    if arguments.save:
        save(arguments.save, lines)


if __name__ == "__main__":
    main()
