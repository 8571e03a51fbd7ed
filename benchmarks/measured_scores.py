"""Scores of the cells of NAS-Bench-201 that nobody published by cell, measured here by our own proxies.

    python benchmarks/measured_scores.py --save FILE [--processes 2]
    python benchmarks/measured_scores.py --save FILE --proxy zico --proxy gradsign --examples 8

By default AZ-NAS's four. Networks are untrained and small, with 16 channels and one cell a stage, and get Gaussian
inputs, so that a cell takes a quarter of a second; cells that compute the same (5,875 classes) are measured once. FILE
has one line of JSON per class and set of proxies; a run that was stopped goes on from there. No table is needed.

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
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from predictors.features import Quantities
from predictors.zero_cost.batch import gaussian_batch
from predictors.zero_cost.catalogue import AZ_NAS, checked_names
from predictors.zero_cost.scorer import Scorer
from search_spaces.architecture import Architecture
from search_spaces.canonical import canonical_key
from search_spaces.catalogue.nas_bench_201 import OPERATIONS, PATHS, nas_bench_201

CHANNELS, PER_STAGE = 16, 1


@cache
def keys() -> dict[Architecture, str]:
    """The canonical key of every cell."""
    space = nas_bench_201()
    cells = (Architecture(zip(PATHS, chosen, strict=True)) for chosen in product(OPERATIONS, repeat=len(PATHS)))
    return {cell: canonical_key(space, cell) for cell in cells}


@cache
def scorer(proxies: tuple[str, ...], examples: int) -> Scorer:
    """What measures a cell."""
    torch.set_num_threads(1)
    return Scorer(
        space=nas_bench_201(channels=CHANNELS, cells=PER_STAGE),
        batch=gaussian_batch((3, 32, 32), 10, examples=examples, seed=0),
        outputs=10,
        loss=functional.cross_entropy,
        proxies=proxies,
    )


def measure(proxies: tuple[str, ...], examples: int, cell: Architecture) -> dict[str, float]:
    """A cell's scores, NaN where it has none."""
    return dict(scorer(proxies, examples).scores(cell).values)


def read(file: Path) -> dict[str, dict[str, float]]:
    """Canonical key -> proxy -> score, as far as they were measured."""
    found: dict[str, dict[str, float]] = {}
    if file.exists():
        for row in map(json.loads, file.read_text().splitlines()):
            found.setdefault(row["key"], {}).update(row["scores"])
    return found


@cache
def _measured(file: Path, proxies: tuple[str, ...]) -> dict[str, list[float]]:
    found, classes = read(file), set(keys().values())
    for proxy in proxies:
        known = sum(proxy in found.get(key, {}) for key in classes)
        if known < len(classes):
            raise SystemExit(f"{file} knows {proxy} of {known} of {len(classes)} classes: run measured_scores.py")
    return {key: [found[key][proxy] for proxy in proxies] for key in classes}


def _scores_of(proxies: tuple[str, ...]) -> Quantities:
    def look_up(architectures: Sequence[Architecture]) -> np.ndarray:
        named = os.environ.get("NAS_MEASURED_SCORES")
        if not named:
            raise SystemExit("say where the scores are: set NAS_MEASURED_SCORES to a file of measured_scores.py")
        found = _measured(Path(named), proxies)
        return np.array([found[keys()[one]] for one in architectures], dtype=np.float64).reshape(-1, len(proxies))

    return Quantities(proxies, look_up)


AZ_NAS_SCORES = _scores_of(AZ_NAS)
GRADIENT_SCORES = _scores_of(("zico", "gradsign"))


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", type=Path, required=True, help="file of the scores, one line per class of cells")
    parser.add_argument("--proxy", action="append", help="a proxy's name; by default AZ-NAS's four")
    parser.add_argument("--examples", type=int, default=16, help="inputs that a network gets")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    proxies = checked_names(arguments.proxy or AZ_NAS)
    known = {key for key, scores in read(arguments.save).items() if scores.keys() >= set(proxies)}
    waiting = {key: cell for cell, key in reversed(keys().items()) if key not in known}  # the first cell of each class
    began = time.perf_counter()
    with ProcessPoolExecutor(arguments.processes) as pool, arguments.save.open("a") as file:
        measured = pool.map(partial(measure, proxies, arguments.examples), waiting.values(), chunksize=8)
        for done, (key, scores) in enumerate(zip(waiting, measured, strict=True), start=1):
            file.write(json.dumps({"key": key, "scores": scores}) + "\n")
            file.flush()
            if done % 200 == 0 or done == len(waiting):
                seconds = (time.perf_counter() - began) / done
                print(f"{done} of {len(waiting)} classes, {seconds:.2f} s each", flush=True)


if __name__ == "__main__":
    main()
