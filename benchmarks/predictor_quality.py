"""How well predictors rank cells of NAS-Bench-201 they have not seen: Kendall's tau against the number of trials.

    python benchmarks/predictor_quality.py --data FOLDER [--predictor gaussian_process] [--trials 50 --trials 100]

FOLDER (or the environment variable NAS_BENCHMARK_DATA) holds `nasbench201/nb201_core.npz`. For each seed n cells are
drawn at random, and 400 others to be ranked; the loss is 100 minus a cell's mean test accuracy after 200 epochs.
Printed are mean and standard error over the seeds of Kendall's tau-b between posterior mean and loss, the means of
the negative log likelihood and of the absolute distance of the calibration curve from the diagonal, and the seconds of
a fit and of its beliefs about the 400. With `--told costs` the predictors are told the numbers of parameters and
multiply-accumulates, with `--told scores` 13 published zero-cost scores (`published_scores.py`, which wants
NAS_BENCHMARK_DATA), with `--told more` AZ-NAS's beside them, with `--told most` zico and gradsign too (both of
`measured_scores.py`, which wants NAS_MEASURED_SCORES).
"""

import argparse
import os
import statistics
import time
from importlib import import_module
from pathlib import Path

import numpy as np
from measured_scores import AZ_NAS_SCORES, GRADIENT_SCORES
from published_scores import COSTS, SCORES_CIFAR10, SCORES_IMAGENET16

from predictors.features import Beside, Features, knowing
from predictors.predictor import Predictor
from predictors.quality import judge
from search_spaces.architecture import Architecture
from search_spaces.catalogue.nas_bench_201 import nas_bench_201

ASKED = 400
TOLD: dict[str, tuple[Features, Features]] = {
    "costs": (COSTS, COSTS),
    "scores": (SCORES_CIFAR10, SCORES_IMAGENET16),
    "more": (Beside((SCORES_CIFAR10, AZ_NAS_SCORES)), Beside((SCORES_IMAGENET16, AZ_NAS_SCORES))),
    "most": (
        Beside((SCORES_CIFAR10, AZ_NAS_SCORES, GRADIENT_SCORES)),
        Beside((SCORES_IMAGENET16, AZ_NAS_SCORES, GRADIENT_SCORES)),
    ),
}
"""What predictors may be told: on the cifars, on ImageNet16-120."""
DEFAULT = ("gaussian_process", "random_forest", "gradient_boosting", "path_ensemble", "graph_network", "stacked")


class Tables:
    """The benchmark: cells in its own order, and what was measured of them."""

    def __init__(self, folder: Path) -> None:
        """Read the file."""
        with np.load(folder / "nasbench201" / "nb201_core.npz", allow_pickle=False) as tables:
            names = [str(name) for name in tables["op_names"]]
            paths = [f"cell/{i}->{j}" for i, j in tables["edges"].tolist()]
            self.cells = [
                Architecture({path: names[digit] for path, digit in zip(paths, row, strict=True)})
                for row in tables["ops"].tolist()
            ]
            self.losses = {str(name): 100.0 - tables["test200"][:, i] for i, name in enumerate(tables["datasets"])}


def made(name: str, told: Features | None) -> Predictor:
    """The predictor with its defaults, told quantities if there are any."""
    module = import_module(f"predictors.{name}")
    found: Predictor = getattr(module, "".join(word.capitalize() for word in name.split("_")))(nas_bench_201())
    return found if told is None else knowing(found, told)


def figures(predictor: Predictor, tables: Tables, losses: np.ndarray, trials: int, seed: int) -> tuple[float, ...]:
    """Tau, negative log likelihood, calibration error, seconds to fit, seconds to ask."""
    drawn = np.random.default_rng(seed).permutation(len(losses))
    seen, unseen = drawn[:trials], drawn[trials : trials + ASKED]
    cells = [tables.cells[place] for place in unseen]
    began = time.perf_counter()
    posterior = predictor.fit([tables.cells[place] for place in seen], losses[seen])
    fitted = time.perf_counter()
    belief = posterior.predict(cells)
    asked = time.perf_counter()
    quality = judge(belief, posterior.noise, losses[unseen])
    judged = quality.kendall_tau, quality.negative_log_likelihood, quality.calibration_error
    return *judged, fitted - began, asked - fitted


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("NAS_BENCHMARK_DATA"), help="folder of the tables")
    parser.add_argument("--predictor", action="append", dest="predictors", help="one of `predictors`, by module name")
    parser.add_argument("--trials", type=int, action="append", help="n; by default 50, 100 and 200")
    parser.add_argument("--set", action="append", dest="sets", choices=["cifar10", "cifar100", "ImageNet16-120"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--told", choices=list(TOLD), help="what the predictors know of a cell before any training")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("say where the tables are: --data FOLDER, or set NAS_BENCHMARK_DATA")
    if arguments.seeds < 2:
        parser.error("--seeds: a spread needs at least two")
    tables = Tables(Path(arguments.data))
    print(f"{'predictor':20} {'data':15} {'n':>5} {'tau':>15} {'nll':>7} {'calibration':>12} {'fit s':>7} {'ask s':>7}")
    for name in arguments.predictors or DEFAULT:
        for data in arguments.sets or tables.losses:
            for trials in arguments.trials or (50, 100, 200):
                told = TOLD[arguments.told][data == "ImageNet16-120"] if arguments.told else None
                predictor = made(name, told)  # a new one: nothing is remembered
                found = [figures(predictor, tables, tables.losses[data], trials, s) for s in range(arguments.seeds)]
                tau, unlikely, calibration, fit, ask = zip(*found, strict=True)
                error = statistics.stdev(tau) / len(tau) ** 0.5
                print(
                    f"{name:20} {data:15} {trials:5d} {statistics.mean(tau):7.3f} ± {error:5.3f} "
                    f"{statistics.mean(unlikely):7.2f} "
                    f"{statistics.mean(calibration):12.3f} {statistics.median(fit):7.3f} {statistics.median(ask):7.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
