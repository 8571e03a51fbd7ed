"""Overhead of a trivial trial through two Ray workers, end to end, start-up excluded; beside Ray Tune.

    python benchmarks/ray_overhead.py [--trials 500] [--peer-trials 40] [--seeds 3]

Start-up is excluded alike on both sides: the clock runs from the end of the first trial to the end of the last.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from spread import compare, heading, times

import nas
from search_spaces import Float, SearchSpace

DECISIONS = [f"x{index}" for index in range(10)]


def evaluate(assignment, report):
    """A trivial objective."""
    return {"value": sum(assignment.architecture.values())}


def ours(trials: int, seed: int) -> float:
    """Seconds per trial, from the database's own times."""
    space = SearchSpace({name: Float(0.0, 1.0) for name in DECISIONS}, name="ten")
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{Path(folder) / 'ours.db'}"
        study = nas.create_study(
            "overhead", space=space, metrics=["value"], strategy="random_search", storage=storage, seed=seed
        )
        study.run(evaluator="ray_overhead:evaluate", trials=trials, workers=2, pool="ray")
        ended = sorted(trial.ended_us for trial in study.trials if trial.state == "completed")
        if len(ended) != trials:
            raise SystemExit(f"not all trials completed: {study.counts()}")
        study.close()
    return (ended[-1] - ended[0]) / 1e6 / (trials - 1)


def tune(trials: int, seed: int) -> float:
    """Seconds per trial."""
    import ray
    from ray import tune

    ended: list[float] = []

    class Clock(tune.Callback):
        def on_trial_complete(self, iteration, trials, trial, **info):
            ended.append(time.perf_counter())

    def trainable(config):
        tune.report({"value": sum(config.values())})

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with tempfile.TemporaryDirectory() as folder:
            tuner = tune.Tuner(
                trainable,
                param_space={name: tune.uniform(0.0, 1.0) for name in DECISIONS},
                tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=2, metric="value", mode="min"),
                run_config=tune.RunConfig(storage_path=folder, verbose=0, callbacks=[Clock()]),
            )
            tuner.fit()
    finally:
        ray.shutdown()
    return (ended[-1] - ended[0]) / (len(ended) - 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--peer-trials", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["NAS_ALLOW"] = "ray_overhead"
    heading(f"trivial trials through 2 Ray workers ({arguments.trials} ours, {arguments.peer_trials} Ray Tune)", "ray")
    mine = times(lambda seed: ours(arguments.trials, seed), arguments.seeds)
    theirs = times(lambda seed: tune(arguments.peer_trials, seed), arguments.seeds)
    compare(mine, theirs, "Ray Tune", 50.0, scale=1e3, unit="ms")


if __name__ == "__main__":
    main()
