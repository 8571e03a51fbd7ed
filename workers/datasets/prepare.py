"""From examples as read to a `Dataset`: checked, split, and with the statistics of the training split."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import get_args

import numpy as np

from workers.datasets.dataset import Array, DataError, Dataset, Examples, Floats, Kind, Split
from workers.datasets.splits import held_out

MAXIMUM_CLASSES = 100
"""Whole-number targets with more distinct values than this are taken for quantities unless the kind is given."""
CHUNK = 4096
"""Rows per step when statistics are summed in float64, so that they never need a float64 copy of the data."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """How any data set is cut.

    Args:
        validation_fraction: of what is not the test split, if there is no official validation split.
        test_fraction: of everything, held out if there is no official test split; 0 for none.
        split_seed: of the cuts. It belongs to the task, not to a trial: all trials of a study see the same splits.
        examples: use at most so many examples for training and validation (a stratified choice); None for all.
        kind: "classification" or "regression"; by default text, booleans and whole numbers of at most 100 distinct
            values are classes, anything else is a quantity.
    """

    validation_fraction: float = 0.2
    test_fraction: float = 0.2
    split_seed: int = 0
    examples: int | None = None
    kind: Kind | None = None

    def __post_init__(self) -> None:
        for name in ("validation_fraction", "test_fraction"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise DataError(f"{name} must be a number from 0 up to, not including, 1, got {value!r}")
        if self.validation_fraction == 0:
            raise DataError("validation_fraction must be larger than 0: a search measures networks on that split")
        for name in ("split_seed", "examples"):
            value = getattr(self, name)
            if value is None and name == "examples":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise DataError(f"{name} must be a whole number >= 0, got {value!r}")
        if self.kind is not None and self.kind not in get_args(Kind):
            raise DataError(f"kind must be 'classification' or 'regression', got {self.kind!r}")


def prepare(examples: Examples, settings: SplitSettings, *, name: str) -> Dataset:
    """Check, split and describe what a loader read; bad data is a `DataError` that names the data set."""
    try:
        return _prepare(examples, settings, name)
    except DataError as error:
        raise DataError(f"data set {name!r}: {error}") from error


def _prepare(examples: Examples, settings: SplitSettings, name: str) -> Dataset:
    if settings.kind and examples.kind and settings.kind != examples.kind:
        raise DataError(f"this is a {examples.kind} task, kind={settings.kind!r} was asked for; leave `kind` out")
    kind = settings.kind or examples.kind or _infer_kind(np.asarray(examples.targets))
    given = {"training": (examples.inputs, examples.targets)}
    given |= {"validation": examples.validation} if examples.validation else {}
    given |= {"test": examples.test} if examples.test else {}
    inputs = {part: _checked_inputs(pair[0], part, examples.impute) for part, pair in given.items()}
    targets = {part: _checked_targets(np.asarray(pair[1]), part, kind) for part, pair in given.items()}
    for part in given:
        if inputs[part].shape[1:] != inputs["training"].shape[1:]:
            raise DataError(
                f"{part} inputs have shape {inputs[part].shape[1:]}, training inputs {inputs['training'].shape[1:]}; "
                "they must be the same"
            )
        if targets[part].shape[1:] != targets["training"].shape[1:]:
            raise DataError(f"{part} targets have another number of columns than the training targets")
        if len(inputs[part]) != len(targets[part]):
            raise DataError(
                f"{part}: {len(inputs[part])} inputs but {len(targets[part])} targets; they must be as many"
            )
    class_names: tuple[str, ...] = ()
    if kind == "classification":
        targets, class_names = _numbered(targets, examples.class_names)

    splits = {part: (inputs[part], targets[part]) for part in given}
    if "test" not in splits:
        splits["training"], splits["test"] = _cut(splits["training"], settings.test_fraction, settings.split_seed, kind)
    if settings.examples is not None:
        splits["training"] = _thinned(splits["training"], settings, kind)
    if "validation" not in splits:
        # + 1: a test split and a validation split of one seed must not be the same choice
        fraction, seed = settings.validation_fraction, settings.split_seed + 1
        splits["training"], splits["validation"] = _cut(splits["training"], fraction, seed, kind)
    _check_splits(splits, kind, class_names)

    if examples.impute:
        splits = _imputed(splits)
    mean, scale = _statistics(splits["training"][0])
    target_mean, target_scale = np.zeros(0, np.float32), np.ones(0, np.float32)
    if kind == "regression":
        target_mean, target_scale = _statistics(splits["training"][1])
    return Dataset(
        name=name,
        kind=kind,
        train=Split(*splits["training"]),
        validation=Split(*splits["validation"]),
        test=Split(*splits["test"]),
        class_names=class_names,
        mean=mean,
        scale=scale,
        target_mean=target_mean,
        target_scale=target_scale,
    )


def _infer_kind(targets: Array) -> Kind:
    if targets.dtype.kind in "biuOUST":
        few = targets.dtype.kind not in "iu" or len(np.unique(targets)) <= MAXIMUM_CLASSES
        return "classification" if few and targets.ndim == 1 else "regression"
    return "regression"


def _checked_inputs(inputs: Array, part: str, missing_allowed: bool) -> Array:
    array = np.asarray(inputs)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{part} inputs must be numbers of one shape, got an array of type {array.dtype}")
    if array.ndim < 2 or 0 in array.shape[1:]:
        raise DataError(f"{part} inputs must have the shape examples x features (or x channels x …), got {array.shape}")
    if len(array) == 0:
        raise DataError(f"there are no {part} examples")
    if array.dtype == np.uint8:
        return array
    with np.errstate(over="ignore"):  # what does not fit in float32 becomes infinite, and is refused below
        array = array.astype(np.float32)
    bad = ~np.isfinite(array) if not missing_allowed else np.isinf(array)
    if bad.any():
        row = int(np.argwhere(bad)[0][0])
        raise DataError(
            f"{int(bad.sum())} {part} input values are NaN, infinite or beyond float32, the first in row {row}; "
            "clean the data, or for tables with missing values pass missing='median'"
        )
    return array


def _checked_targets(targets: Array, part: str, kind: Kind) -> Array:
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.dtype.kind == "f" and not np.isfinite(targets).all():
        rows = np.flatnonzero(~np.isfinite(targets).reshape(len(targets), -1).all(1))
        raise DataError(
            f"{len(rows)} {part} targets are NaN or infinite, the first in row {rows[0]}; every example needs a target"
        )
    if kind == "classification":
        if targets.ndim != 1:
            raise DataError(f"class labels must be one per example, got {part} targets of shape {targets.shape}")
        if targets.dtype.kind == "f":
            if (targets != np.round(targets)).any():
                raise DataError(
                    f"{part} targets are not whole numbers, so they are no class labels; use kind='regression'"
                )
            targets = targets.astype(np.int64)
        return targets.astype(str) if targets.dtype.kind == "O" else targets
    if targets.dtype.kind not in "biuf":
        raise DataError(f"{part} targets must be numbers for regression, got an array of type {targets.dtype}")
    if targets.ndim not in (1, 2):
        raise DataError(f"{part} targets must have the shape examples or examples x columns, got {targets.shape}")
    with np.errstate(over="ignore"):
        columns: Floats = targets.reshape(len(targets), -1).astype(np.float32)
    if not np.isfinite(columns).all():
        raise DataError(f"some {part} targets are beyond float32; rescale them")
    return columns


def _numbered(targets: dict[str, Array], names: tuple[str, ...] | None) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Class labels as numbers 0 … c-1, and their names by number."""
    kinds = {part: array.dtype.kind in "biu" for part, array in targets.items()}
    if len(set(kinds.values())) > 1:
        raise DataError("class labels must be all text or all whole numbers, in every split")
    labels = np.unique(targets["training"])
    for part, array in targets.items():
        unknown = np.setdiff1d(array, labels)
        if len(unknown):
            raise DataError(f"class {unknown[0].item()!r} occurs in the {part} split but not in the training split")
    if len(labels) < 2:
        raise DataError(f"there is only one class, {labels[0].item()!r}; a classification task needs at least two")
    if names is not None:
        if labels.dtype.kind not in "iu" or labels[0] < 0 or labels[-1] >= len(names):
            raise DataError(f"class numbers must lie between 0 and {len(names) - 1}, got {labels[0]} to {labels[-1]}")
        return {part: array.astype(np.int64) for part, array in targets.items()}, names
    numbered = {part: np.searchsorted(labels, array).astype(np.int64) for part, array in targets.items()}
    return numbered, tuple(str(label) for label in labels)


def _cut(
    split: tuple[Array, Array], share: float, seed: int, kind: Kind
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    inputs, targets = split
    mask = held_out(targets if kind == "classification" else None, len(targets), share, seed)
    return (inputs[~mask], targets[~mask]), (inputs[mask], targets[mask])


def _thinned(split: tuple[Array, Array], settings: SplitSettings, kind: Kind) -> tuple[Array, Array]:
    """At most `settings.examples` of the examples."""
    total, wanted = len(split[1]), settings.examples or 0
    if wanted >= total:
        return split
    kept, _ = _cut(split, 1 - wanted / total, settings.split_seed + 2, kind)
    return kept


def _check_splits(splits: dict[str, tuple[Array, Array]], kind: Kind, class_names: tuple[str, ...]) -> None:
    sizes = {part: len(targets) for part, (_, targets) in splits.items()}
    if sizes["training"] < 2 or sizes["validation"] < 1:
        raise DataError(
            f"too few examples: {sizes['training']} for training and {sizes['validation']} for validation; at least 2 "
            "and 1 are needed (mind validation_fraction, test_fraction and examples)"
        )
    targets = splits["training"][1]
    if kind == "classification":
        missing = np.setdiff1d(np.arange(len(class_names)), targets)
        if len(missing):
            log.warning("%d of %d classes have no training example", len(missing), len(class_names))
        if len(class_names) - len(missing) < 2:
            raise DataError("the training examples are of one class only; at least two classes are needed")
    elif (targets == targets[:1]).all(0).any():
        column = int(np.flatnonzero((targets == targets[:1]).all(0))[0])
        raise DataError(
            f"target column {column} is the same number for all training examples; there is nothing to learn"
        )


def _imputed(splits: dict[str, tuple[Array, Array]]) -> dict[str, tuple[Array, Array]]:
    """Missing inputs (NaN) replaced by the median of their column over the training split."""
    training = splits["training"][0]
    known = np.isfinite(training).any(0)
    if not known.all():
        column = int(np.flatnonzero(~known)[0])
        raise DataError(f"input column {column} has no value at all in the training split; drop it")
    median = np.nanmedian(training, axis=0).astype(np.float32)
    return {part: (np.where(np.isnan(inputs), median, inputs), targets) for part, (inputs, targets) in splits.items()}


def _statistics(values: Array) -> tuple[Floats, Floats]:
    """Mean and standard deviation over the examples; over the positions too if each example has channels.

    Args:
        values: n x features, or n x channels x ….

    Returns:
        Two arrays of shape features, or channels x 1 x …; a standard deviation of 0 is given as 1.
    """
    axes = (0, *range(2, values.ndim))
    shape = tuple(size if axis == 1 else 1 for axis, size in enumerate(values.shape))[1:]
    count = values.size / values.shape[1]
    chunks = range(0, len(values), CHUNK)
    mean = sum(values[at : at + CHUNK].sum(axes, dtype=np.float64) for at in chunks) / count
    mean = np.asarray(mean).reshape(shape)
    square = sum(((values[at : at + CHUNK].astype(np.float64) - mean) ** 2).sum(axes) for at in chunks) / count
    scale = np.sqrt(np.asarray(square)).reshape(shape)
    # a constant feature has a standard deviation of 0 up to rounding
    constant = scale <= 1e-7 * np.maximum(np.abs(mean), 1e-30)
    return mean.astype(np.float32), np.where(constant, 1.0, scale).astype(np.float32)
