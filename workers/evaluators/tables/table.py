"""Table: tabulated metrics, and which row an architecture has."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from search_spaces.nodes import Scalar
from workers.datasets.dataset import Array

VARIABLE = "NAS_BENCHMARK_DATA"


class TableError(ValueError):
    """A benchmark table is missing, or has no such entry; the message says what to do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """What was measured, per architecture.

    Args:
        name: for messages.
        columns: metric -> one value per row (n), or one per row and repetition (n x repetitions, NaN where there were
            fewer). Each metric is in the units of `workers.metrics`.
        of_architecture: the metrics that belong to the architecture itself rather than to a training.
        row: the row of an architecture.
    """

    name: str
    columns: Mapping[str, Array]
    of_architecture: frozenset[str]
    row: Callable[[Mapping[str, Scalar]], int]

    def value(self, metric: str, row: int, seed: int | None) -> float:
        """One entry: the mean over the repetitions, or the repetition that `seed` draws."""
        if metric not in self.columns:
            raise TableError(f"{self.name} has no metric {metric!r}; {hint(metric, self.columns)}")
        entry = self.columns[metric][row]
        if entry.ndim == 0:
            return float(entry)
        values = entry[~np.isnan(entry)]
        if not len(values):
            raise TableError(f"{self.name} has no {metric} for row {row}")
        if seed is None:
            return float(values.mean(dtype=np.float64))
        return float(values[np.random.default_rng(seed).integers(len(values))])


def hint(given: object, allowed: Mapping[str, object] | tuple[str, ...]) -> str:
    """The nearest allowed name, and all of them."""
    close = get_close_matches(str(given), list(allowed), 1)
    return (f"did you mean {close[0]!r}? " if close else "") + "allowed are " + ", ".join(map(str, allowed))


def read_table(path: str | None, usual: str) -> dict[str, Array]:
    """The arrays of a table's file.

    Args:
        path: the file; None for `usual` below the folder that the environment variable NAS_BENCHMARK_DATA names.
        usual: such as "nasbench201/nb201_core.npz".
    """
    folder = os.environ.get(VARIABLE)
    if path is None and not folder:
        raise TableError(
            f"where is {usual}? Set {VARIABLE} to the folder with the benchmark data, or give the table's path"
        )
    file = Path(path) if path is not None else Path(str(folder)) / usual
    if not file.is_file():
        raise TableError(f"there is no benchmark table {str(file)!r}; set {VARIABLE} to the folder that holds {usual}")
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise TableError(f"{str(file)!r} cannot be read as a benchmark table: {error}") from error


def decided(architecture: Mapping[str, Scalar], path: str, table: str) -> Scalar:
    """The value of a decision that the table needs."""
    if path not in architecture:
        raise TableError(
            f"{table} needs the decision {path!r}; this architecture has {', '.join(architecture) or 'none'}"
        )
    return architecture[path]
