"""RMSE and log likelihood of our neural predictors on UCI regression, beside deep ensembles as published.

    python benchmarks/uci_regression.py --data FOLDER [--set wine-quality-red] [--method laplace] [--splits 5]

FOLDER (or the environment variable NAS_BENCHMARK_DATA) holds `uci_regression/<set>.npz`: X, y and the published random
splits (nine tenths to learn from). Inputs and outputs are standardised by the predictors; figures are in the set's own
units, the log likelihood is of a normal with the predicted mean and the predicted variance plus noise. Printed are the
mean over the first splits and its standard error. Published: Lakshminarayanan, Pritzel, Blundell (NIPS 2017), table 1,
mean over 20 splits. Sizes are fixed for all sets: the default settings, but for Hmc, whose chains are as long as
--hmc-draws says (R-hat is printed), and DeepEnsemble, which is trained for the paper's 40 passes over the
data, three times as fast as by default: that is for the few trials of a search, and thousands of examples allow more.
"""

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from results import save

from predictors.bayesian_network.regression import Regression
from predictors.deep_ensemble import DeepEnsemble
from predictors.hmc import Hmc
from predictors.infinite_width import InfiniteWidth
from predictors.laplace import Laplace
from search_spaces.nodes import Float
from search_spaces.space import SearchSpace

PUBLISHED = {  # RMSE, log likelihood
    "concrete": (6.03, -3.06),
    "energy": (2.09, -1.38),
    "kin8nm": (0.09, 1.20),
    "naval-propulsion-plant": (0.00, 5.63),
    "power-plant": (4.11, -2.79),
    "protein-tertiary-structure": (4.71, -2.83),
    "wine-quality-red": (0.64, -0.94),
    "yacht": (1.58, -1.18),
}
METHODS = ("deep_ensemble", "hmc", "laplace", "infinite_width")
PASSES, BATCH, RATE = 40, 100, 0.03


def learn(method: str, x: np.ndarray, y: np.ndarray, seed: int, draws: int) -> Regression:
    """One of our predictors, from a table of numbers."""
    space = SearchSpace({f"x{column}": Float(0.0, 1.0) for column in range(x.shape[1])}, "numbers")
    if method == "deep_ensemble":
        steps = PASSES * math.ceil(len(y) / BATCH)
        return DeepEnsemble(space, steps=steps, batch=BATCH, learning_rate=RATE, seed=seed).regress(x, y)
    if method == "hmc":
        return Hmc(space, warm_up=draws, draws=draws, kept=200, seed=seed).regress(x, y)
    if method == "laplace":
        return Laplace(space, seed=seed).regress(x, y)
    return InfiniteWidth(space, seed=seed).regress(x, y)


def measured(regression: Regression, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """RMSE and mean log likelihood."""
    mean, variance, noise = regression.predict(x)
    total = variance + noise
    log_likelihood = -0.5 * (np.log(2 * np.pi * total) + (y - mean) ** 2 / total)
    return float(np.sqrt(np.mean((y - mean) ** 2))), float(log_likelihood.mean())


def summary(values: list[float]) -> str:
    """Mean and standard error."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{np.mean(values):8.4f} ± {error:6.4f}"


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("NAS_BENCHMARK_DATA"), help="folder of the data")
    parser.add_argument("--set", choices=list(PUBLISHED), action="append", dest="sets")
    parser.add_argument("--method", choices=METHODS, action="append", dest="methods")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--hmc-draws", type=int, default=200)
    parser.add_argument("--save", type=Path, help="append the lines to this file, with date and machine")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("say where the data are: --data FOLDER, or set NAS_BENCHMARK_DATA")
    torch.set_num_threads(1)
    lines = []
    for name in arguments.sets or ("kin8nm", "power-plant", "wine-quality-red"):
        path = Path(arguments.data) / "uci_regression" / f"{name}.npz"
        if not path.is_file():
            parser.error(f"{path} is missing; it holds X, y, n and test_mask, see above")
        with np.load(path, allow_pickle=False) as table:
            x, y = table["X"].astype(np.float64), table["y"].astype(np.float64)
            tests = [np.unpackbits(mask)[: len(y)].astype(bool) for mask in table["test_mask"][: arguments.splits]]
        for method in arguments.methods or METHODS:
            errors, likelihoods, hats, began = [], [], [], time.process_time()
            for split, test in enumerate(tests):
                regression = learn(method, x[~test], y[~test], split, arguments.hmc_draws)
                error, likelihood = measured(regression, x[test], y[test])
                errors.append(error)
                likelihoods.append(likelihood)
                hats.append(regression.diagnostics.get("r_hat", math.nan))
            seconds = (time.process_time() - began) / len(tests)
            published = PUBLISHED[name]
            lines.append(
                f"{name:18} {method:14} splits {len(tests):2}  RMSE {summary(errors)} (published {published[0]:5.2f})  "
                f"log likelihood {summary(likelihoods)} (published {published[1]:5.2f})  {seconds:6.1f} s/split"
                + (f"  R-hat {max(hats):.3f}" if method == "hmc" else "")
            )
            print(lines[-1], flush=True)
    if arguments.save:
        save(arguments.save, lines)


if __name__ == "__main__":
    main()
