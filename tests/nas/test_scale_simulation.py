"""The simulation of many workers in a small size: what it counts is held against what the database says."""

import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nas.studies import open_study
from workers.evaluators.tables.nas_bench_201 import nas_bench_201

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from scale_growth import grow, made_up  # scripts, no package
from scale_simulation import simulate, training_seconds

SECONDS = np.linspace(20.0, 180.0, 50)


@pytest.mark.slow
def test_every_trial_of_a_simulated_search_is_trained_once_by_a_worker_that_holds_no_other(store_url):
    run, name = simulate(storage=store_url, seconds=SECONDS, workers=8, trials=40, epochs=3, beat_seconds=50.0, seed=3)
    assert run.reason == "all 40 trials are done"
    assert run.lost == 0
    study = open_study(name, store_url)
    trials = study.trials
    assert [trial.number for trial in trials] == list(range(40))
    assert {str(trial.state) for trial in trials} == {"completed"}
    assert sorted(span.number for span in run.spans) == list(range(40))
    by_worker: dict[str, list[tuple[int, int]]] = {}
    for trial in trials:
        (attempt,) = study.store.attempts(trial.id)
        by_worker.setdefault(attempt.worker, []).append((attempt.started, attempt.ended))
        assert trial.metrics == {"error": pytest.approx(made_up(trial.architecture, "error"))}
        steps = [row.step for row in study.store.measurements(study.id, number=trial.number)]
        assert steps == [1, 2, 3]
    for times in by_worker.values():
        times.sort()
        assert all(ended <= began for (_, ended), (began, _) in pairwise(times))
    counted = Counter(f"simulated-{span.worker}" for span in run.spans)
    assert counted == {worker: len(times) for worker, times in by_worker.items()}
    assert len(counted) == 8
    study.close()


@pytest.mark.slow
def test_simulated_time_is_the_training_and_the_real_work_of_one_hand(tmp_path):
    """Busy shares and times, from the spans alone."""
    run, _ = simulate(
        storage=f"sqlite:///{tmp_path}/studies.db",
        seconds=SECONDS,
        strategy="nsga2",
        settings={"population": 6},
        workers=5,
        trials=30,
        epochs=1,
        beat_seconds=100.0,
    )
    trained = np.array([span.ended - span.began for span in run.spans])
    assert np.isin(trained.round(6), SECONDS.round(6)).all()
    assert run.busy_to_the_end == pytest.approx(trained.sum() / (5 * run.simulated_seconds))
    assert 0.8 < run.busy <= 1.0
    assert run.busy_to_the_end < run.busy
    real = sum(sum(run.calls[call]) for call in ("register", "claim", "beat", "finish", "wait") if call in run.calls)
    assert 0 < run.load * run.handed_out_seconds <= run.real_seconds
    assert real < run.real_seconds
    last = max(span.ended for span in run.spans)
    assert last <= run.simulated_seconds < last + 2.0
    assert set(run.spans[0].metrics) == {"error", "macs"}


@pytest.mark.slow
def test_the_cost_of_more_trials_is_measured_at_each_size(tmp_path):
    found = grow(
        storage=lambda size: f"sqlite:///{tmp_path}/{size}.db",
        sizes=[30, 60],
        strategy="regularized_evolution",
        settings={"population": 20},
        seed=0,
        turns=2,
    )
    assert [size.trials for size in found] == [30, 60]
    for size in found:
        assert list(size.each) == ["strategy", "propose", "claim", "report", "finish", "refresh"]
        assert size.per_trial == pytest.approx(sum(size.each.values()))
        assert min(*size.each.values(), size.thousand_seconds, size.read_seconds, size.history_seconds) > 0


def test_training_times_are_those_of_the_benchmark(benchmark_data):
    table = nas_bench_201(str(benchmark_data / "nasbench201" / "nb201_core.npz"), "cifar100", "validation", 12)
    seconds = training_seconds(benchmark_data, "cifar100", 12)
    np.testing.assert_allclose(seconds, table.columns["training_seconds"])
    assert len(seconds) == 15_625
