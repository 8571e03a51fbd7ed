"""How many queries Bayesian search needs to find the best cell of NAS-Bench-201, and how long it takes to propose.

    python benchmarks/bayesian_nas_bench_201.py --data FOLDER [--seeds 50] [--setting predictor=gaussian_process]

FOLDER (or the environment variable NAS_BENCHMARK_DATA) holds `nasbench201/nb201_core.npz`. A query is what it is in
`nas_bench_201_queries.py`: one cell's mean test accuracy after 200 epochs, without noise; results are not shared
between cells. A run ends after `--most` queries and then counts as one more. Printed are mean and standard error of the
number of queries, the median, the most, how many runs did not find the best cell, and milliseconds per proposal.

--setting KEY=VALUE sets one of the strategy's settings, as --set strategy.KEY=VALUE does in `nas search`.
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from driven import settings_of
from nas_bench_201_queries import load, mean_and_error, queries_of_strategy

from nas import catalogue


def queries(name: str, settings: dict[str, Any], data: Path, table: str, most: int, seed: int) -> tuple[int, float]:
    """Queries of one run, and its seconds."""
    strategy = catalogue.load("strategy", name, settings, allow=["published_scores", "measured_scores", "tests"])
    accuracy, best = load(data)[table]
    began = time.perf_counter()
    return queries_of_strategy(strategy, accuracy, best, seed, most), time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("NAS_BENCHMARK_DATA"), help="folder of the tables")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=400)
    parser.add_argument("--strategy", default="bayesian")
    parser.add_argument("--setting", action="append", default=[], help="KEY=VALUE of the strategy")
    parser.add_argument("--set", choices=["cifar10", "cifar100", "ImageNet16-120"], action="append", dest="sets")
    parser.add_argument("--processes", type=int, default=1, help="runs at the same time")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("say where the tables are: --data FOLDER, or set NAS_BENCHMARK_DATA")
    settings = settings_of(arguments.setting)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    print(f"{arguments.strategy} {settings}")
    print(f"{'data':15} {'queries':>15} {'median':>7} {'most':>5} {'missed':>7} {'ms/query':>9}")
    for table in arguments.sets or ["cifar10", "cifar100", "ImageNet16-120"]:
        run = partial(queries, arguments.strategy, settings, Path(arguments.data), table, arguments.most)
        if arguments.processes > 1:
            with ProcessPoolExecutor(arguments.processes) as pool:
                found = list(pool.map(run, seeds))
        else:
            found = [run(seed) for seed in seeds]
        counts = [count for count, _ in found]
        mean, error = mean_and_error(counts)
        milliseconds = 1000 * sum(seconds for _, seconds in found) / sum(counts)
        missed = sum(count > arguments.most for count in counts)
        print(
            f"{table:15} {mean:7.1f} ± {error:5.1f} {np.median(counts):7.1f} {max(counts):5} {missed:7} "
            f"{milliseconds:9.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
