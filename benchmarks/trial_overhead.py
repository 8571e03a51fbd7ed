"""Overhead of a trivial trial: 10 decisions, SQLite file, one process; ours beside Optuna's random sampler and TPE.

python benchmarks/trial_overhead.py [--trials 1000] [--seeds 3] [--peer-seeds 1]
"""

import argparse
import tempfile
import time
from pathlib import Path

from spread import compare, heading, spread, times

import nas
from search_spaces import Float, SearchSpace

DECISIONS = [f"x{index}" for index in range(10)]


def evaluate(assignment, report):
    """A trivial objective."""
    return {"value": sum(assignment.architecture.values())}


def ours(trials: int, seed: int) -> float:
    """Seconds per trial."""
    space = SearchSpace({name: Float(0.0, 1.0) for name in DECISIONS}, name="ten")
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{Path(folder) / 'ours.db'}"
        study = nas.create_study(
            "overhead", space=space, metrics=["value"], strategy="random_search", storage=storage, seed=seed
        )
        began = time.perf_counter()
        study.run(evaluator=evaluate, trials=trials, pool="local")
        seconds = (time.perf_counter() - began) / trials
        if study.counts()["completed"] != trials:
            raise SystemExit(f"not all trials completed: {study.counts()}")
        study.close()
    return seconds


def optuna(trials: int, seed: int, sampler: str) -> float:
    """Seconds per trial."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{Path(folder) / 'optuna.db'}"
        study = optuna.create_study(storage=storage, sampler=samplers[sampler](seed=seed))
        began = time.perf_counter()
        study.optimize(lambda trial: sum(trial.suggest_float(name, 0.0, 1.0) for name in DECISIONS), n_trials=trials)
        return (time.perf_counter() - began) / trials


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peer-seeds", type=int, default=1)
    arguments = parser.parse_args()
    heading(f"overhead per trivial trial, {arguments.trials} trials", "optuna", "sqlalchemy")
    mine = times(lambda seed: ours(arguments.trials, seed), arguments.seeds)
    random = times(lambda seed: optuna(arguments.trials, seed, "random"), arguments.peer_seeds)
    compare(mine, random, "Optuna", 10.0, scale=1e3, unit="ms")
    tpe = times(lambda seed: optuna(arguments.trials, seed, "tpe"), arguments.peer_seeds)
    print(f"  Optuna TPE  {spread(tpe, 1e3, 'ms')}")


if __name__ == "__main__":
    main()
