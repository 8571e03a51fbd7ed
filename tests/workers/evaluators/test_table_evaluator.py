import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from search_spaces.architecture import Architecture
from search_spaces.nodes import Boolean
from search_spaces.space import SearchSpace
from workers.evaluators import table as table_module
from workers.evaluators.table import TableEvaluator
from workers.evaluators.tables import fcnet, nas_bench_macro
from workers.evaluators.tables.table import TableError
from workers.protocol import Assignment

EDGES = ("0->1", "0->2", "1->2", "0->3", "1->3", "2->3")
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
ANYTHING = SearchSpace({"x": Boolean()})


def assign(values, *metrics, seed=0, budget=None, task=None):
    return Assignment(
        study="s",
        trial=0,
        attempt=1,
        architecture=Architecture(values),
        space=ANYTHING,
        task=task or {},
        metrics=metrics,
        seed=seed,
        budget=budget,
        scratch=Path(),
    )


def cell(*operations):
    return {f"cell/{edge}": operation for edge, operation in zip(EDGES, operations, strict=True)}


@pytest.fixture
def small(tmp_path):
    """A table laid out as NAS-Bench-201's, of the cells whose last four edges are "none"."""
    ops = np.asarray([(a, b, 0, 0, 0, 0) for a, b in product(range(5), repeat=2)], np.uint8)
    rows = np.arange(25.0)
    seeds = np.stack([rows[:, None] + np.asarray([50, 60, np.nan])] * 2, axis=1).astype(np.float32)
    two = np.stack([rows, rows + 1], axis=1).astype(np.float32)
    file = tmp_path / "small.npz"
    np.savez(
        file,
        ops=ops,
        op_names=np.asarray(OPERATIONS),
        edges=np.asarray([(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)], np.uint8),
        datasets=np.asarray(["cifar10", "cifar100"]),
        val200_seeds=seeds,
        test200=two + 40,
        val12=two + 10,
        test12=two + 20,
        train_time200_s=two * 100 + 200,
        latency_1080ti_s=two / 1000,
        params_M=two / 10,
        flops_M_nb201_cifar10=rows.astype(np.float32),
    )
    return str(file)


def test_an_architecture_finds_its_row(small):
    found = TableEvaluator(path=small, noisy=False).evaluate(
        assign(cell("skip_connect", "nor_conv_1x1", *["none"] * 4), "error", "macs", "parameters", "latency_ms"), None
    )
    row = 5 * 1 + 2
    assert found == pytest.approx(
        {"error": 1 - (row + 55) / 100, "macs": row * 1e6, "parameters": row * 1e5, "latency_ms": row}
    )


def test_a_seed_draws_one_of_the_repetitions_there_are(small):
    evaluator = TableEvaluator(path=small)
    architecture = cell(*["none"] * 6)
    drawn = [evaluator.evaluate(assign(architecture, "accuracy", seed=seed), None)["accuracy"] for seed in range(30)]
    assert set(drawn) == {0.5, 0.6}
    again = [evaluator.evaluate(assign(architecture, "accuracy", seed=seed), None)["accuracy"] for seed in range(30)]
    assert drawn == again


def test_budget_measure_and_data_choose_the_column(small):
    architecture = cell("none", "skip_connect", *["none"] * 4)

    def accuracy(measure, budget, data):
        given = assign(architecture, "accuracy", "training_seconds", budget=budget, task={"data": data})
        found = TableEvaluator(path=small, measure=measure, noisy=False).evaluate(given, None)
        return round(100 * found["accuracy"]), found["training_seconds"]

    assert accuracy("validation", 12, "cifar10") == (11, 300 * 12 / 200)
    assert accuracy("test", 12, "cifar100") == (22, 400 * 12 / 200)
    assert accuracy("test", None, "cifar10") == accuracy("test", 200, "cifar10") == (41, 300)


def test_time_is_simulated(small, monkeypatch):
    slept = []
    monkeypatch.setattr(table_module.time, "sleep", slept.append)
    architecture = cell(*["none"] * 6)
    TableEvaluator(path=small, time_scale=0.01).evaluate(assign(architecture, "error"), None)
    assert slept == [pytest.approx(2.0)]
    TableEvaluator(path=small).evaluate(assign(architecture, "error"), None)
    assert len(slept) == 1


def test_a_known_result_is_completed_by_what_belongs_to_the_architecture(small):
    known = {"error": 0.123, "parameters": 1.0}
    found = TableEvaluator(path=small).complete(
        assign(cell("skip_connect", *["none"] * 5), "error", "parameters"), known, None
    )
    assert found == pytest.approx({"error": 0.123, "parameters": 5e5})


@pytest.mark.parametrize(
    ("settings", "values", "options", "message"),
    [
        ({"data": "cifar"}, cell(*["none"] * 6), {}, "no data set 'cifar'; did you mean 'cifar10'"),
        ({"measure": "train"}, cell(*["none"] * 6), {}, "validation, test, got 'train'"),
        ({}, cell(*["none"] * 6), {"budget": 50}, "12 or 200 epochs, got the budget 50"),
        ({}, cell("skip_conect", *["none"] * 5), {}, "cell/0->1: .*'skip_conect'; did you mean 'skip_connect'"),
        ({}, {"width": 3}, {}, "needs the decision 'cell/0->1'; this architecture has width"),
        ({}, cell(*["none"] * 6), {"metrics": ("eror",)}, "no metric 'eror'; did you mean 'error'"),
        ({"data": "cifar100"}, cell(*["none"] * 6), {"metrics": ("macs",)}, "no metric 'macs'"),
    ],
)
def test_what_the_table_lacks_is_named(small, settings, values, options, message):
    metrics = options.pop("metrics", ("error",))
    with pytest.raises(TableError, match=message):
        TableEvaluator(path=small, **settings).evaluate(assign(values, *metrics, **options), None)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="no benchmark table 'nasbench201'; did you mean 'nas_bench_201'"):
        TableEvaluator(table="nasbench201")
    with pytest.raises(ValueError, match="time_scale must be at least 0"):
        TableEvaluator(time_scale=-1)


def test_a_missing_file_names_the_variable(monkeypatch, tmp_path):
    with pytest.raises(TableError, match=r"no benchmark table 'nowhere.npz'; set NAS_BENCHMARK_DATA"):
        TableEvaluator(path="nowhere.npz").evaluate(assign({}, "error"), None)
    monkeypatch.delenv("NAS_BENCHMARK_DATA", raising=False)
    with pytest.raises(TableError, match="Set NAS_BENCHMARK_DATA to the folder"):
        TableEvaluator().evaluate(assign({}, "error"), None)
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(TableError, match="cannot be read as a benchmark table"):
        TableEvaluator(path=str(tmp_path / "bad.npz")).evaluate(assign({}, "error"), None)


def test_the_published_best_cell_has_its_published_accuracy(benchmark_data):
    file = str(benchmark_data / "nasbench201" / "nb201_core.npz")
    with np.load(file, allow_pickle=False) as arrays:
        ops, test = arrays["ops"], arrays["test200"]
    for at, (data, published) in enumerate([("cifar10", 94.373), ("cifar100", 73.513), ("ImageNet16-120", 47.311)]):
        best = cell(*(OPERATIONS[op] for op in ops[test[:, at].argmax()]))
        evaluator = TableEvaluator(path=file, data=data, measure="test")
        found = evaluator.evaluate(assign(best, "accuracy"), None)
        assert 100 * found["accuracy"] == pytest.approx(published, abs=6e-4)


def test_all_other_tables_hold_their_published_best(benchmark_data):
    best = {f"layer_{i}": nas_bench_macro.OPERATIONS[int(digit)] for i, digit in enumerate("22212202")}
    assert nas_bench_macro.space.validate(best)
    macro = TableEvaluator(
        table="nas_bench_macro",
        path=str(benchmark_data / nas_bench_macro.USUAL_FILE),
        measure="test",
        noisy=False,
    )
    assert macro.evaluate(assign(best, "accuracy"), None)["accuracy"] == pytest.approx(0.93127, abs=1e-5)

    file = benchmark_data / fcnet.USUAL_FILE
    with np.load(file, allow_pickle=False) as arrays:
        listed = json.loads(str(arrays["space"]))
        row = arrays["config"][arrays["protein_structure__val_loss"].mean(1).argmin()]
    values = {name: allowed[index] for (name, allowed), index in zip(listed.items(), row, strict=True)}
    assert fcnet.space.validate(values)
    evaluator = TableEvaluator(table="fcnet", path=str(file), data="protein_structure", noisy=False)
    assert evaluator.evaluate(assign(values, "loss"), None)["loss"] == pytest.approx(0.2214, abs=1e-4)
