"""Tables with a target column: CSV, TSV and Parquet files."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np

from workers.datasets.dataset import Array, DataError, Examples

MAXIMUM_CATEGORIES = 100
"""A text column with more distinct values is not one-hot encoded: it is an identifier or free text, most likely."""


def columns(
    path: Path,
    *,
    target: str | list[str] | None = None,
    drop: list[str] | None = None,
    categorical: Literal["one_hot", "ordinal"] = "one_hot",
    missing: Literal["error", "median"] = "error",
) -> Examples:
    """Read a table whose columns are features, but for the target.

    Args:
        path: a .csv, .tsv (either may be compressed) or .parquet file.
        target: name of the target column, or several for regression with several outputs.
        drop: names of columns to leave out, such as an identifier.
        categorical: text columns become one 0/1 column per category ("one_hot"), or the rank of the category in
            alphabetical order ("ordinal"). The categories are those of the whole file. Booleans count as 0 and 1.
        missing: "error" refuses missing values; "median" replaces missing numbers by the column's median over the
            training split, and makes "missing" a category of its own in text columns.
    """
    for name, value, allowed in (
        ("categorical", categorical, ("one_hot", "ordinal")),
        ("missing", missing, ("error", "median")),
    ):
        if value not in allowed:
            raise DataError(f"{name} must be {' or '.join(map(repr, allowed))}, got {value!r}")
    frame = _read(path)
    if target is None:
        raise DataError(f"a table needs to know its target column: pass target=…; the columns are {_listed(frame)}")
    targets, dropped = ([name] if isinstance(name, str) else list(name or ()) for name in (target, drop))
    for name in (*targets, *dropped):
        if name not in frame.columns:
            close = get_close_matches(str(name), [str(column) for column in frame.columns], 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise DataError(f"there is no column {name!r}; {hint}the columns are {_listed(frame)}")
    for name in targets:
        empty = frame[name].isna()
        if empty.any():
            raise DataError(
                f"{int(empty.sum())} values of the target column {name!r} are missing (NaN), the first in row "
                f"{int(np.flatnonzero(empty)[0])}; remove those rows"
            )
    features = [name for name in frame.columns if name not in targets and name not in dropped]
    if not features:
        raise DataError("there is no column besides the target; a task needs at least one input")
    inputs = [encoded for name in features for encoded in _encoded(frame[name], str(name), categorical, missing)]
    target_values = [_target(frame[name]) for name in targets]
    if len(targets) > 1 and any(values.dtype.kind not in "biuf" for values in target_values):
        raise DataError("several target columns must all be numbers (regression)")
    return Examples(
        inputs=np.stack(inputs, axis=1).astype(np.float32),
        targets=target_values[0] if len(targets) == 1 else np.stack(target_values, axis=1),
        kind="regression" if len(targets) > 1 else None,
        impute=missing == "median",
    )


def _read(path: Path) -> Any:
    import pandas

    try:
        if ".parquet" in path.suffixes:
            frame = pandas.read_parquet(path)
        else:
            frame = pandas.read_csv(path, sep="\t" if ".tsv" in path.suffixes else ",", skipinitialspace=True)
    except (ValueError, OSError, ImportError) as error:  # pandas' and pyarrow's parser errors are ValueErrors
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    if not len(frame):
        raise DataError(f"{path} has no rows")
    return frame


def _listed(frame: Any, most: int = 20) -> str:
    names = [repr(str(name)) for name in frame.columns]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _target(column: Any) -> Array:
    if column.dtype.kind in "biuf":
        return np.asarray(column.to_numpy())
    return np.asarray(column.astype(str).to_numpy(dtype=object)).astype(str)


def _encoded(column: Any, name: str, categorical: str, missing: str) -> list[Array]:
    """The numeric columns that one column of the table becomes."""
    empty = column.isna()
    if empty.any() and missing == "error":
        raise DataError(
            f"column {name!r} has {int(empty.sum())} missing values, the first in row {int(np.flatnonzero(empty)[0])}; "
            "fill them, or pass missing='median'"
        )
    if column.dtype.kind in "biuf":
        return [column.to_numpy(dtype=np.float64, na_value=np.nan)]
    texts = np.asarray(column.astype(str).where(~empty, "").to_numpy(dtype=object)).astype(str)
    labels = np.unique(texts[~empty.to_numpy()])
    codes = np.where(empty, len(labels), np.searchsorted(labels, texts))
    if categorical == "ordinal":
        return [codes.astype(np.float64)]
    if len(labels) > MAXIMUM_CATEGORIES:
        raise DataError(
            f"column {name!r} has {len(labels)} different texts, more than {MAXIMUM_CATEGORIES} categories; leave it "
            f"out with drop=[{name!r}], or pass categorical='ordinal'"
        )
    return [(codes == code).astype(np.float64) for code in range(len(labels) + bool(empty.any()))]
