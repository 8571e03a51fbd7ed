"""`nas latency fit`, searches that use what it made, and metrics refused because their device is not there."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import nas
from nas.evaluation import own_device
from nas.latency import _held_out, fit_latency
from search_spaces import load_space
from search_spaces.catalogue import CATALOGUE
from workers.datasets import load_dataset
from workers.energy import NoEnergyMeter
from workers.latency_predictor import read_predictor

Run = Callable[..., tuple[int, str, str]]
MLP = {"layers": 2, "widths": [4, 8, 16], "training": False}
SMALL = ("--space", "mlp", "--data", "iris", *(f"--set=space.{name}={value}" for name, value in MLP.items()))
SEARCH = ("search", "--name", "new", "--space", "mlp", "--data", "iris", "--trials", "1", "--metric")


@pytest.fixture
def no_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(device: torch.device) -> None:
        raise NoEnergyMeter("energy_mj cannot be measured on the processor: nothing here")

    monkeypatch.setattr("workers.measuring.meter_for", none)


def test_a_fit_writes_a_file_and_tells_how_well_it_foretells_and_a_search_uses_it(run: Run, tmp_path: Path) -> None:
    given = ("latency", "fit", *SMALL, "--count", "12", "--repeats", "2", "--batch-size", "8", "--out", "made.json")
    code, out, err = run(*given, "--json")
    assert code == 0
    told = json.loads(out)
    made = read_predictor(tmp_path / "made.json")
    assert told["file"] == str(tmp_path / "made.json")
    assert told["networks"] == made.held_out.count == 12
    assert told["held-out tau"] == made.held_out.kendall_tau
    assert told["held-out relative error"] == made.held_out.relative_error >= 0
    assert (made.space, made.input_shape, made.batch_size) == ("mlp", (4,), 8)
    assert "1 threads" in told["device"]
    assert f"evaluator.latency_predictor={tmp_path}/made.json" in err
    study = nas.create_study(
        "searched",
        space={"name": "mlp", **MLP},
        data="iris",
        metrics=["latency_ms", "macs"],
        strategy="random_search",
        evaluator={
            "name": "training",
            "latency_source": "predicted",
            "latency_predictor": "made.json",
            "latency_batch_size": 8,
        },
        storage=f"sqlite:///{tmp_path}/nas.db",
    )
    study.run(trials=2, pool="local")
    assert study.counts()["completed"] == 2
    for trial in study.trials:
        assert trial.metrics["latency_ms"] > 0
        assert study.attributes(trial.number) == {
            "latency_device": made.device,
            "latency_batch_size": 8,
            "latency_precision": "float32",
            "latency_source": "predicted",
        }
    study.close()


def test_networks_are_drawn_and_measured_by_the_seed_and_watched() -> None:
    seen: list[int] = []
    space, data = load_space("mlp", **MLP), load_dataset("iris")
    made = fit_latency(space, data, count=10, repeats=1, seed=3, watch=seen.append)
    assert seen == list(range(1, 11))
    assert "aten.addmm calls" in made.coefficients
    few = load_space("mlp", layers=1, widths=[4], activations=["relu"], normalizations=["none"], skips=False, dropout=0)
    with pytest.raises(ValueError, match="needs at least 10 networks, got 1 of 'mlp'"):
        fit_latency(few, data, count=10)


def test_what_is_held_out_is_foretold_without_it() -> None:
    rows = [{"a calls": float(number)} for number in range(1, 21)]
    measured = np.array([0.5 * row["a calls"] for row in rows])
    fold_of = np.arange(20) % 5
    exact = _held_out(rows, measured, fold_of, 5)
    assert exact.kendall_tau == 1.0
    assert exact.relative_error == pytest.approx(0, abs=1e-4)
    alone = {"b calls": 1.0}  # no other network tells what this takes
    lost = _held_out([*rows, alone], np.append(measured, 2.0), np.append(fold_of, 0), 5)
    assert lost.relative_error == pytest.approx(1 / 21, abs=1e-4)


def test_a_metric_whose_device_is_not_there_is_refused_before_anything_is_written(
    run: Run, tmp_path: Path, no_counters: None
) -> None:
    for more, said in (
        (("energy_mj",), "energy_mj cannot be measured on the processor: nothing here"),
        (("latency_ms", "--set", "evaluator.latency_device=cuda:99"), "device 'cuda:99' is not there"),
        (("latency_ms", "--set", "evaluator.latency_source=lookup"), "latency_source must be one of measured, look_up"),
    ):
        for last in ((), ("--dry-run",)):
            code, out, err = run(*SEARCH, *more, *last)
            assert (code, out) == (2, "")
            assert said in err
            assert len(err.splitlines()) == 1
    assert not list(tmp_path.glob("*.db"))


def test_a_study_from_python_is_refused_before_it_runs(tmp_path: Path, no_counters: None) -> None:
    study = nas.create_study(
        "energetic", space="mlp", data="iris", metrics=["energy_mj"], storage=f"sqlite:///{tmp_path}/nas.db"
    )
    for pool in ("local", "ray"):
        with pytest.raises(ValueError, match="nothing here"):
            study.run(trials=1, pool=pool)
    assert sum(study.counts().values()) == 0
    study.close()


def test_of_machines_elsewhere_nothing_is_known() -> None:
    assert own_device(0.0, None) == "cpu"
    assert own_device(0.5, None) == "cuda:0"
    assert own_device(0.5, "head:6379") is None


def test_the_ready_spaces_are_listed(run: Run) -> None:
    code, out, _ = run("spaces", "--json")
    assert code == 0
    listed = json.loads(out)
    assert [record["space"] for record in listed] == list(CATALOGUE)
    assert all(len(record["what it is"]) > 20 for record in listed)
    small = ("--set", "space.stages=1", "--set", "space.blocks=1", "--set", "space.training=false")
    more = ("--name", "m", "--data", "digits", "--metric", "macs", "--dry-run")
    code, out, _ = run("search", "--space", "mobile_cnn", *small, *more)
    assert code == 0
    assert f"{3 * 3 * 3 * 2}" in out  # widths, kernels, expansions, squeeze-and-excite


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--precision", "int8"), "--precision must be one of float32, bfloat16, float16, got 'int8'"),
        (("--device", "abacus"), "device must be 'cpu' or 'cuda'"),
        (("--count", "9"), "--count"),
        (("--set", "strategy.population=3"), "only space.… and data.…"),
        (("--out", "no/such/folder.json"), "there is no folder"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, _, err = run("latency", "fit", *SMALL, "--out", "made.json", *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_help_loads_no_torch() -> None:
    script = (
        "import sys\nfrom nas.cli import main\nsys.argv = ['nas', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended\n"
        "heavy = {'torch', 'ray', 'optuna', 'sklearn', 'pandas', 'botorch', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for arguments in (["latency", "fit", "--help"], ["spaces"]):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
