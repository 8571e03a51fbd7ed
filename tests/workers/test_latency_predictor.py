import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from workers.latency_predictor import HeldOut, LatencyPredictor, features, fit, read_predictor
from workers.operators import Operator, OperatorReader

HELD = HeldOut(kendall_tau=0.9, relative_error=0.1, count=20)


def predictor(**changes: object) -> LatencyPredictor:
    made = LatencyPredictor(
        space="mine",
        input_shape=(1, 4, 4),
        device="a processor",
        software="torch 2",
        batch_size=1,
        precision="float32",
        coefficients={"aten.relu calls": 0.5, "aten.relu bytes": 0.001},
        held_out=HELD,
    )
    return replace(made, **changes)


def relus(count: int, size: int = 10) -> list[Operator]:
    return OperatorReader().read(nn.Sequential(*(nn.ReLU() for _ in range(count))), (size,))


def test_features_are_sums_over_operators_of_a_kind() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU())
    found = features(OperatorReader().read(network, (3,), batch_size=2))
    assert found["aten.addmm calls"] == 2
    assert found["aten.addmm macs"] == 2 * (3 * 4 + 4 * 4)
    assert found["aten.relu bytes"] == 2 * 4 * (2 * 2 * 4)
    assert "aten.relu macs" not in found


def test_a_latency_is_the_sum_of_coefficients_times_features() -> None:
    assert predictor().latency_ms(relus(3)) == pytest.approx(3 * 0.5 + 0.001 * 3 * 80)


def test_what_latencies_were_made_of_is_found_again() -> None:
    rng = np.random.default_rng(0)
    truth = {"a calls": 0.2, "a bytes": 1e-6, "b calls": 0.0, "b macs": 3e-9}
    rows = [
        {"a calls": float(rng.integers(1, 9)), "a bytes": rng.uniform(1e4, 1e6), "b calls": float(rng.integers(1, 9))}
        | ({"b macs": rng.uniform(1e6, 1e9)} if rng.random() < 0.8 else {})
        for _ in range(40)
    ]
    exact = [sum(truth[name] * value for name, value in row.items()) for row in rows]
    found = fit(rows, exact)
    for row, expected in zip(rows, exact, strict=True):
        assert sum(found[name] * value for name, value in row.items()) == pytest.approx(expected, rel=0.01)
    assert found["b macs"] == pytest.approx(3e-9, rel=0.02)
    noisy = fit(rows, [value * float(np.exp(rng.normal(0, 0.1))) for value in exact])
    errors = [
        abs(sum(noisy[name] * value for name, value in row.items()) / expected - 1)
        for row, expected in zip(rows, exact, strict=True)
    ]
    assert np.mean(errors) < 0.1
    assert min(noisy.values()) >= 0


def test_errors_count_relative_to_what_was_measured() -> None:
    rows = [{"a calls": 1.0}, {"a calls": 1.0}, {"a calls": 1.0}, {"a calls": 1.0}]
    found = fit(rows, [1.0, 1.0, 100.0, 100.0])["a calls"]
    # the least of 2 (c - 1)^2 + 2 (c / 100 - 1)^2 is far below the mean, 50.5
    assert found == pytest.approx((1 + 1 / 100) / (1 + 1 / 100**2), rel=0.1)


def test_an_operator_that_no_measured_network_had_is_refused() -> None:
    operators = OperatorReader().read(nn.Sequential(nn.ReLU(), nn.Tanh()), (3,))
    with pytest.raises(ValueError, match=r"networks of 'mine' without aten\.tanh; fit it to"):
        predictor().latency_ms(operators)


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    predictor().write(tmp_path / "file.json")
    assert read_predictor(tmp_path / "file.json") == predictor()


@pytest.mark.parametrize(
    "change",
    [
        {"format": "nas-latency-predictor-0"},
        {"more": 1},
        {"coefficients": {"aten.relu calls": -0.5}},
        {"coefficients": {"aten.relu calls": "fast"}},
        {"held_out": {"tau": 1}},
        {"input_shape": None},
        [],
    ],
    ids=str,
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, change: dict[str, object] | list[object]) -> None:
    path = tmp_path / "file.json"
    predictor().write(path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | change if isinstance(change, dict) else change))
    with pytest.raises(ValueError, match=r"file\.json holds no latency predictor .*nas latency fit makes one"):
        read_predictor(path)
    with pytest.raises(ValueError, match=r"absent\.json holds no latency predictor"):
        read_predictor(tmp_path / "absent.json")
