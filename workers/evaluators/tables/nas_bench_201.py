"""NAS-Bench-201: all 15,625 cells of six operations, trained on three data sets.

Source: Dong & Yang 2020. MACs are what the benchmark calls FLOPs, in its own count (CIFAR-10 only).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from search_spaces.nodes import Scalar
from workers.evaluators.tables.table import Table, TableError, decided, hint, read_table

NAME = "NAS-Bench-201"
USUAL_FILE = "nasbench201/nb201_core.npz"
MEASURES = ("validation", "test")


def nas_bench_201(path: str | None, data: str, measure: str, budget: float | None) -> Table:
    """The table of one data set.

    Args:
        path: of nb201_core.npz; None to find it by NAS_BENCHMARK_DATA.
        data: "cifar10", "cifar100" or "ImageNet16-120".
        measure: "validation" (three repetitions at 200 epochs) or "test" (the mean over the repetitions).
        budget: 200 epochs (also None), or 12, which was a schedule of its own.
    """
    arrays = read_table(path, USUAL_FILE)
    datasets = tuple(str(name) for name in arrays["datasets"])
    if data not in datasets:
        raise TableError(f"{NAME} has no data set {data!r}; {hint(data, datasets)}")
    if budget not in (None, 12, 200):
        raise TableError(f"{NAME} was trained for 12 or 200 epochs, got the budget {budget}")
    if measure not in MEASURES:
        raise TableError(f"measure must be one of {', '.join(MEASURES)}, got {measure!r}")
    at = datasets.index(data)
    if budget == 12:
        percent = arrays["val12" if measure == "validation" else "test12"][:, at]
    else:
        percent = arrays["val200_seeds"][:, at, :] if measure == "validation" else arrays["test200"][:, at]
    accuracy = percent.astype(np.float64) / 100
    seconds = arrays["train_time200_s"][:, at].astype(np.float64) * ((budget or 200) / 200)
    columns = {
        "error": 1 - accuracy,
        "accuracy": accuracy,
        "parameters": np.round(arrays["params_M"][:, at].astype(np.float64) * 1e6),
        "latency_ms": arrays["latency_1080ti_s"][:, at].astype(np.float64) * 1e3,
        "training_seconds": seconds,
    }
    if data == "cifar10":
        columns["macs"] = np.round(arrays["flops_M_nb201_cifar10"].astype(np.float64) * 1e6)
    names = {str(name): number for number, name in enumerate(arrays["op_names"])}
    paths = tuple(f"cell/{int(source)}->{int(target)}" for source, target in arrays["edges"])
    rows = {tuple(operations): row for row, operations in enumerate(arrays["ops"].tolist())}

    def row(architecture: Mapping[str, Scalar]) -> int:
        operations = []
        for edge in paths:
            operation = decided(architecture, edge, NAME)
            if operation not in names:
                raise TableError(f"{edge}: {NAME} has no operation {operation!r}; {hint(operation, tuple(names))}")
            operations.append(names[str(operation)])
        return rows[tuple(operations)]

    return Table(
        name=NAME,
        columns=columns,
        of_architecture=frozenset({"parameters", "latency_ms", "macs"}),
        row=row,
    )
