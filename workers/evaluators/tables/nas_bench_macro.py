"""NAS-Bench-Macro: 3^8 chains of eight layers on CIFAR-10, three trainings each.

Source: Su et al. 2021 (Prioritized architecture sampling with Monte-Carlo tree search). MACs are what it calls FLOPs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from search_spaces.nodes import Choice, Scalar
from search_spaces.space import SearchSpace
from workers.evaluators.tables.table import Table, TableError, decided, hint, read_table

NAME = "NAS-Bench-Macro"
USUAL_FILE = "nas_bench_macro/nas_bench_macro.npz"
OPERATIONS = ("identity", "mobile_3x3_expand_3", "mobile_5x5_expand_6")
"""By digit: identity, MB3_K3, MB6_K5."""

space = SearchSpace({f"layer_{index}": Choice(OPERATIONS) for index in range(8)}, name="nas_bench_macro")
"""Its decisions; a space for looking up, without a network to build."""


def nas_bench_macro(path: str | None, data: str, measure: str, budget: float | None) -> Table:
    """The table; `data` must be "cifar10" and `measure` "test", for there is nothing else."""
    if data != "cifar10":
        raise TableError(f"{NAME} has the data set cifar10 only, got {data!r}")
    if measure != "test":
        raise TableError(f"{NAME} has test accuracies only; pass measure='test', got {measure!r}")
    if budget is not None:
        raise TableError(f"{NAME} has one budget only, got {budget}; leave it out")
    arrays = read_table(path, USUAL_FILE)
    accuracy = arrays["test_acc"].astype(np.float64) / 100
    rows = {tuple(digits): row for row, digits in enumerate(arrays["arch"].tolist())}

    def row(architecture: Mapping[str, Scalar]) -> int:
        digits = []
        for layer in space.by_path:
            operation = decided(architecture, layer, NAME)
            if operation not in OPERATIONS:
                raise TableError(f"{layer}: {NAME} has no operation {operation!r}; {hint(operation, OPERATIONS)}")
            digits.append(OPERATIONS.index(str(operation)))
        return rows[tuple(digits)]

    return Table(
        name=NAME,
        columns={
            "error": 1 - accuracy,
            "accuracy": accuracy,
            "parameters": arrays["params"].astype(np.float64),
            "macs": arrays["flops"].astype(np.float64),
        },
        of_architecture=frozenset({"parameters", "macs"}),
        row=row,
    )
