import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from workers import latency_table
from workers.latency_table import BETWEEN, LatencyTable, table_for
from workers.measure import device_name

CPU = torch.device("cpu")
SHAPE = (1, 6, 6)


def network(channels: int = 2) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, channels, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * channels, 3))


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many calls were timed at once; the n-th of them takes n milliseconds, and a chain in between 0.5 each."""
    counts: list[int] = []

    def each(calls: Sequence[object], device: torch.device) -> list[float]:
        counts.append(len(calls))
        return [float(number) for number in range(1, len(calls) + 1)]

    class Whole:
        def __init__(self, chain: nn.Module, shape: tuple[int, ...], device: torch.device) -> None:
            count = counts[-1] if counts else 4 * len(chain)
            self.median_ms = sum(range(1, count + 1)) + 0.5 * count

    monkeypatch.setattr(latency_table, "each_ms", each)
    monkeypatch.setattr(latency_table, "latency", Whole)
    return counts


def test_a_network_takes_the_sum_of_its_operators_and_of_what_stands_between(tmp_path: Path, timed: list[int]) -> None:
    table = LatencyTable(tmp_path / "table.json", CPU)
    assert table.latency_ms(network(), SHAPE) == pytest.approx(1 + 2 + 3 + 3 * 0.5)
    assert len(timed) == 2  # the chain, and this network


def test_an_operator_is_measured_once_for_all_networks_processes_and_places_in_a_network(
    tmp_path: Path, timed: list[int]
) -> None:
    path = tmp_path / "below" / "table.json"
    first = LatencyTable(path, CPU).latency_ms(network(), SHAPE)
    count = len(timed)
    again = LatencyTable(path, CPU)
    assert again.latency_ms(network(), SHAPE) == first
    assert len(timed) == count
    again.latency_ms(network(), SHAPE, batch_size=2)
    again.latency_ms(network(), SHAPE, precision="bfloat16")
    again.latency_ms(network(3), SHAPE)
    assert len(timed) == count + 3
    twice = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.Tanh())
    assert again.latency_ms(twice, (7,)) == pytest.approx(2 * 1.5 + 3 + 3 * 0.5)  # the mean of both places
    held = json.loads(path.read_text())
    assert held["device"] == device_name(CPU)
    assert held["software"].startswith(f"torch {torch.__version__}")
    assert held["milliseconds"]["aten.relu.default(float32[1,7])"] == 1.5
    assert held["milliseconds"][BETWEEN] == 0.5


def test_what_two_processes_add_is_merged(tmp_path: Path, timed: list[int]) -> None:
    one, other = (LatencyTable(tmp_path / "table.json", CPU) for _ in range(2))
    one.latency_ms(network(2), SHAPE)
    other.latency_ms(network(3), SHAPE)
    count = len(timed)
    third = LatencyTable(tmp_path / "table.json", CPU)
    for channels in (2, 3):
        third.latency_ms(network(channels), SHAPE)
    assert len(timed) == count


@pytest.mark.parametrize(
    "change",
    [
        {"device": "another"},
        {"software": "torch 0"},
        {"format": "nas-latency-table-0"},
        {"milliseconds": {"between": -1}},
        {"milliseconds": {"between": float("nan")}},
        {"milliseconds": ["between"]},
        "no JSON",
    ],
    ids=str,
)
def test_a_file_of_another_device_version_or_kind_is_measured_anew(
    tmp_path: Path, timed: list[int], change: dict[str, object] | str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "table.json"
    LatencyTable(path, CPU).latency_ms(network(), SHAPE)
    text = change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change)
    path.write_text(text)
    count = len(timed)
    with caplog.at_level(logging.WARNING):
        table = LatencyTable(path, CPU)
    assert "operators are measured anew" in caplog.text
    table.latency_ms(network(), SHAPE)
    assert len(timed) == count + 2


def test_a_folder_that_cannot_be_written_costs_time_only(
    tmp_path: Path, timed: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        table = LatencyTable(tmp_path / "file" / "table.json", CPU)
        assert table.latency_ms(network(), SHAPE) > 0
    assert "they are measured again" in caplog.text


def test_a_device_and_a_number_of_threads_have_a_file_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_LATENCY_CACHE", str(tmp_path))
    table_for.cache_clear()
    one, two = (table_for(CPU, f"A processor (R), {threads} threads") for threads in (1, 2))
    assert one.path.parent == tmp_path
    assert one.path.name.startswith("a-processor-r-1-threads-")
    assert one.path != two.path
    assert table_for(CPU, "A processor (R), 1 threads") is one
    table_for.cache_clear()


def test_a_sum_of_measured_operators_grows_with_the_network(tmp_path: Path) -> None:
    table = LatencyTable(tmp_path / "table.json", CPU)
    small, large = nn.Conv2d(1, 1, 1), nn.Sequential(*(nn.Conv2d(8, 8, 5) for _ in range(4)))
    assert 0 < table.latency_ms(small, (1, 4, 4)) < table.latency_ms(large, (8, 40, 40))
