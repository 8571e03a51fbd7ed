"""FCNet: 62,208 joint settings of a two-layer perceptron and its optimiser, on four regression tasks, four seeds each.

Source: Klein & Hutter 2019 (Tabular benchmarks for joint architecture and hyperparameter optimization).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from search_spaces.nodes import Choice, Scalar
from search_spaces.space import SearchSpace
from workers.evaluators.tables.table import Table, TableError, decided, hint, read_table

NAME = "FCNet"
USUAL_FILE = "fcnet/hpolib_fcnet.npz"

_RATES = Choice([0.0, 0.3, 0.6])
_WIDTHS = Choice([16, 32, 64, 128, 256, 512])
_ACTIVATIONS = Choice(["relu", "tanh"])

space = SearchSpace(
    {
        "activation_fn_1": _ACTIVATIONS,
        "activation_fn_2": _ACTIVATIONS,
        "batch_size": Choice([8, 16, 32, 64]),
        "dropout_1": _RATES,
        "dropout_2": _RATES,
        "init_lr": Choice([0.0005, 0.001, 0.005, 0.01, 0.05, 0.1]),
        "lr_schedule": Choice(["cosine", "const"]),
        "n_units_1": _WIDTHS,
        "n_units_2": _WIDTHS,
    },
    name="fcnet",
)
"""Its decisions, named as in the table; a space for looking up, without a network to build."""


def fcnet(path: str | None, data: str, measure: str, budget: float | None) -> Table:
    """The table of one task.

    Args:
        path: of hpolib_fcnet.npz; None to find it by NAS_BENCHMARK_DATA.
        data: "naval_propulsion", "parkinsons_telemonitoring", "protein_structure" or "slice_localization".
        measure: "validation" (the final mean squared error, of four repetitions).
        budget: None; the table holds the full training of 100 epochs.
    """
    arrays = read_table(path, USUAL_FILE)
    tasks = tuple(name.removesuffix("__val_loss") for name in arrays if name.endswith("__val_loss"))
    if data not in tasks:
        raise TableError(f"{NAME} has no data set {data!r}; {hint(data, tasks)}")
    if measure != "validation":
        raise TableError(f"{NAME} has validation losses only; pass measure='validation', got {measure!r}")
    if budget not in (None, 100):
        raise TableError(f"{NAME} holds trainings of 100 epochs, got the budget {budget}")
    listed: dict[str, list[Scalar]] = json.loads(str(arrays["space"]))
    rows = {tuple(indexes): row for row, indexes in enumerate(arrays["config"].tolist())}

    def row(architecture: Mapping[str, Scalar]) -> int:
        indexes = []
        for name, allowed in listed.items():
            value = decided(architecture, name, NAME)
            if value not in allowed:
                raise TableError(f"{name}: {NAME} has no value {value!r}; allowed are {', '.join(map(str, allowed))}")
            indexes.append(allowed.index(value))
        return rows[tuple(indexes)]

    loss = arrays[f"{data}__val_loss"].astype(np.float64)
    return Table(
        name=NAME,
        columns={
            "loss": loss,
            "rmse": np.sqrt(loss),
            "parameters": arrays[f"{data}__model_size"].astype(np.float64),
            "training_seconds": arrays[f"{data}__train_time"].astype(np.float64),
        },
        of_architecture=frozenset({"parameters"}),
        row=row,
    )
