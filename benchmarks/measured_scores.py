"""AZ-NAS's scores of the cells of NAS-Bench-201, measured here on small untrained networks by our own proxies.

    python benchmarks/measured_scores.py --save FILE [--processes 2]

Nobody published them cell by cell. Networks have 16 channels and one cell a stage and get 16 Gaussian inputs, so that a
cell takes a quarter of a second; cells that compute the same (5,875 classes) are measured once. FILE has one line of
JSON per class, and a run that was stopped goes on from there. No table is needed, and nothing is trained.

Afterwards a strategy or a benchmark finds the scores by path, with the environment variable NAS_MEASURED_SCORES naming
FILE:

    python benchmarks/bayesian_nas_bench_201.py --setting 'features=["measured_scores:AZ_NAS_SCORES"]'
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from predictors.features import Quantities
from predictors.zero_cost.batch import gaussian_batch
from predictors.zero_cost.catalogue import AZ_NAS
from predictors.zero_cost.scorer import Scorer
from search_spaces.architecture import Architecture
from search_spaces.canonical import canonical_key
from search_spaces.catalogue.nas_bench_201 import OPERATIONS, PATHS, nas_bench_201

EXAMPLES, CHANNELS, PER_STAGE = 16, 16, 1


@cache
def keys() -> dict[Architecture, str]:
    """The canonical key of every cell."""
    space = nas_bench_201()
    cells = (Architecture(zip(PATHS, chosen, strict=True)) for chosen in product(OPERATIONS, repeat=len(PATHS)))
    return {cell: canonical_key(space, cell) for cell in cells}


@cache
def scorer() -> Scorer:
    """What measures a cell."""
    torch.set_num_threads(1)
    return Scorer(
        space=nas_bench_201(channels=CHANNELS, cells=PER_STAGE),
        batch=gaussian_batch((3, 32, 32), 10, examples=EXAMPLES, seed=0),
        outputs=10,
        loss=functional.cross_entropy,
        proxies=AZ_NAS,
    )


def measure(cell: Architecture) -> list[float]:
    """A cell's scores, NaN where it has none."""
    return list(scorer().scores(cell).values.values())


def read(file: Path) -> dict[str, list[float]]:
    """Canonical key -> scores, as far as they were measured."""
    if not file.exists():
        return {}
    rows = map(json.loads, file.read_text().splitlines())
    return {row["key"]: row["scores"] for row in rows}


@cache
def _measured(file: Path) -> dict[str, list[float]]:
    found = read(file)
    if len(found) < len(set(keys().values())):
        raise SystemExit(f"{file} has the scores of {len(found)} classes of cells, not of all: run measured_scores.py")
    return found


def _scores_of(architectures: Sequence[Architecture]) -> np.ndarray:
    named = os.environ.get("NAS_MEASURED_SCORES")
    if not named:
        raise SystemExit("say where the scores are: set NAS_MEASURED_SCORES to a file that measured_scores.py has made")
    found = _measured(Path(named))
    return np.array([found[keys()[one]] for one in architectures], dtype=np.float64).reshape(-1, len(AZ_NAS))


AZ_NAS_SCORES = Quantities(AZ_NAS, _scores_of)


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", type=Path, required=True, help="file of the scores, one line per class of cells")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    known = read(arguments.save)
    waiting = {key: cell for cell, key in reversed(keys().items()) if key not in known}  # the first cell of each class
    began = time.perf_counter()
    with ProcessPoolExecutor(arguments.processes) as pool, arguments.save.open("a") as file:
        measured = pool.map(measure, waiting.values(), chunksize=8)
        for done, (key, scores) in enumerate(zip(waiting, measured, strict=True), start=1):
            file.write(json.dumps({"key": key, "scores": scores}) + "\n")
            file.flush()
            if done % 200 == 0 or done == len(waiting):
                seconds = (time.perf_counter() - began) / done
                print(f"{done} of {len(waiting)} classes, {seconds:.2f} s each", flush=True)


if __name__ == "__main__":
    main()
