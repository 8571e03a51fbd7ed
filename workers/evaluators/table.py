"""TableEvaluator: looks results up in a benchmark table instead of training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from workers.evaluators.tables.fcnet import fcnet
from workers.evaluators.tables.nas_bench_201 import nas_bench_201
from workers.evaluators.tables.nas_bench_macro import nas_bench_macro
from workers.evaluators.tables.table import Table, TableError, hint
from workers.protocol import Assignment, Report

TABLES: Mapping[str, Callable[[str | None, str, str, float | None], Table]] = MappingProxyType(
    {"nas_bench_201": nas_bench_201, "nas_bench_macro": nas_bench_macro, "fcnet": fcnet}
)
"""Tables by name."""


@dataclass(frozen=True, kw_only=True)
class TableEvaluator:
    """Looks up what a benchmark has measured.

    Args:
        table: "nas_bench_201" (for the space of that name), "nas_bench_macro" or "fcnet" (for the `space` in their
            files in `workers.evaluators.tables`).
        path: the table's file; None finds it in the folder that NAS_BENCHMARK_DATA names.
        data: which of the table's data sets; a task's "data" goes before it.
        measure: "validation" or "test".
        noisy: return the repetition that the trial's seed draws; False for the mean over the repetitions.
        time_scale: sleep for this many seconds per tabulated second of training, to simulate it; 0 not to.
    """

    table: str = "nas_bench_201"
    path: str | None = None
    data: str = "cifar10"
    measure: str = "validation"
    noisy: bool = True
    time_scale: float = 0.0

    def __post_init__(self) -> None:
        if self.table not in TABLES:
            raise ValueError(f"no benchmark table {self.table!r}; {hint(self.table, tuple(TABLES))}")
        if self.time_scale < 0:
            raise ValueError(f"time_scale must be at least 0, got {self.time_scale!r}")

    def check(self, assignment: Assignment) -> None:
        """Find the table, the architecture's row and every metric in it."""
        table = self._table(assignment)
        row = table.row(assignment.architecture)
        for name in assignment.metrics:
            table.value(name, row, None)

    def evaluate(self, assignment: Assignment, report: Report) -> dict[str, float]:
        """The tabulated metrics that the assignment asks for."""
        table = self._table(assignment)
        row = table.row(assignment.architecture)
        seed = assignment.seed if self.noisy else None
        metrics = {name: table.value(name, row, seed) for name in assignment.metrics}
        if self.time_scale:
            if "training_seconds" not in table.columns:
                raise TableError(f"{table.name} has no training times to simulate; leave time_scale at 0")
            time.sleep(self.time_scale * table.value("training_seconds", row, seed))
        return metrics

    def complete(self, assignment: Assignment, known: Mapping[str, float], report: Report) -> dict[str, float]:
        """The trained metrics from `known`, those of the architecture itself from the table."""
        table = self._table(assignment)
        row = table.row(assignment.architecture)
        return {
            name: table.value(name, row, None) if name in table.of_architecture else known[name]
            for name in assignment.metrics
        }

    def _table(self, assignment: Assignment) -> Table:
        data = str(assignment.task.get("data", self.data))
        return _cached(self.table, self.path, data, self.measure, assignment.budget)


@lru_cache(maxsize=8)
def _cached(name: str, path: str | None, data: str, measure: str, budget: float | None) -> Table:
    return TABLES[name](path, data, measure, budget)
