"""Writing 10,000 finished trials, and the Pareto front of them in a fresh process; ours beside Optuna.

python benchmarks/stored_trials.py [--trials 10000] [--seeds 3] [--peer-seeds 1]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from spread import compare, heading

import nas
from search_spaces import Float, SearchSpace

DECISIONS = [f"x{index}" for index in range(10)]

READ_OURS = """
import time; began = time.perf_counter()
import nas
front = nas.open_study("stored", storage="{storage}").pareto_front()
print(time.perf_counter() - began, len(front), flush=True)
"""
READ_OPTUNA = """
import time; began = time.perf_counter()
import optuna
optuna.logging.set_verbosity(optuna.logging.WARNING)
front = optuna.load_study(study_name="stored", storage="{storage}").best_trials
print(time.perf_counter() - began, len(front), flush=True)
"""


def write_ours(storage: str, values: np.ndarray) -> float:
    """Seconds to write; `values` is trials x (10 decisions + 2 metrics)."""
    space = SearchSpace({name: Float(0.0, 1.0) for name in DECISIONS}, name="ten")
    study = nas.create_study("stored", space=space, metrics=["first", "second"], storage=storage)
    records = [
        (dict(zip(DECISIONS, row[:10], strict=True)), {"first": row[10], "second": row[11]}) for row in values.tolist()
    ]
    began = time.perf_counter()
    study.add_trials(records)
    seconds = time.perf_counter() - began
    study.close()
    return seconds


def write_optuna(storage: str, values: np.ndarray) -> float:
    """Seconds to write."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name="stored", storage=storage, directions=["minimize", "minimize"])
    distributions = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in DECISIONS}
    trials = [
        optuna.trial.create_trial(
            params=dict(zip(DECISIONS, row[:10], strict=True)), distributions=distributions, values=row[10:]
        )
        for row in values.tolist()
    ]
    began = time.perf_counter()
    study.add_trials(trials)
    return time.perf_counter() - began


def read(script: str, storage: str) -> tuple[float, int]:
    """Seconds, imports included, and the size of the front, of a fresh process."""
    answer = subprocess.run(
        [sys.executable, "-c", script.format(storage=storage)], check=True, capture_output=True, text=True
    ).stdout.split()
    return float(answer[0]), int(answer[1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peer-seeds", type=int, default=1)
    arguments = parser.parse_args()
    times = {"ours": ([], []), "Optuna": ([], [])}
    fronts: dict[int, set[int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, seeds, write, script in (
            ("ours", arguments.seeds, write_ours, READ_OURS),
            ("Optuna", arguments.peer_seeds, write_optuna, READ_OPTUNA),
        ):
            for seed in range(seeds):
                storage = f"sqlite:///{Path(folder) / f'{name}-{seed}.db'}"
                values = np.random.default_rng(seed).random((arguments.trials, 12))
                times[name][0].append(write(storage, values))
                for _ in range(3):
                    seconds, size = read(script, storage)
                    times[name][1].append(seconds)
                    fronts.setdefault(seed, set()).add(size)
    if any(len(sizes) > 1 for sizes in fronts.values()):
        raise SystemExit(f"the two disagree about the front: {fronts}")
    heading(f"write {arguments.trials} finished trials (10 decisions, 2 metrics, SQLite file)", "optuna", "sqlalchemy")
    compare(times["ours"][0], times["Optuna"][0], "Optuna", 40.0)
    heading(f"Pareto front of {arguments.trials} trials in a fresh process, imports included", "optuna", "sqlalchemy")
    compare(times["ours"][1], times["Optuna"][1], "Optuna", 12.0)


if __name__ == "__main__":
    main()
