import subprocess
import sys

import pytest

from nas.metric import Metric
from workers.metrics import METRICS, available_metrics, check_metrics


def test_goals_are_those_a_study_assumes():
    for name, metric in METRICS.items():
        assert Metric(name).goal == metric.goal, name


def test_each_kind_of_task_has_its_own_metrics():
    both = {"loss", "parameters", "macs", "activation_bytes", "latency_ms", "energy_mj", "training_seconds"}
    assert set(available_metrics("classification")) == both | {"error", "accuracy"}
    assert set(available_metrics("regression")) == both | {"rmse", "r2"}
    assert set(available_metrics()) == set(METRICS)


def test_a_wrong_name_gets_the_nearest_one():
    with pytest.raises(ValueError, match=r"no metric 'eror'; did you mean 'error'\?"):
        check_metrics(["macs", "eror"])
    with pytest.raises(ValueError, match=r"no metric 'rmse' for classification; .*allowed are error, accuracy"):
        check_metrics(["rmse"], "classification")
    check_metrics(["rmse", "r2"], "regression")


def test_names_are_checked_without_heavy_libraries():
    code = "import sys, workers.metrics, workers.training.settings, workers.datasets.load; " + (
        "sys.exit(sum(name in sys.modules for name in ('torch', 'sklearn', 'pandas', 'PIL', 'ray')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
