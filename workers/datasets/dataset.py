"""Dataset: inputs and targets in three splits, with the statistics of the training split beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Kind: TypeAlias = Literal["classification", "regression"]
Array: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float32]


class DataError(ValueError):
    """The data cannot be used as given; the message says what came, what is allowed and what to do."""


@dataclass(frozen=True, eq=False)
class Split:
    """Examples in a fixed order. Arrays are read-only.

    Args:
        inputs: n x input_shape, as stored: uint8 for images, else float32. Not normalised; see `Dataset.normalised`.
        targets: n class numbers (int64), or n x k target columns (float32) in their own units.
    """

    inputs: Array
    targets: Array

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise DataError(
                f"there are {len(self.inputs)} inputs but {len(self.targets)} targets; they must be as many"
            )
        for name in ("inputs", "targets"):
            array = np.ascontiguousarray(getattr(self, name)).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A task's data. Images stand as channels x height x width.

    A search reads `train` and `validation` only. `test` is for the final report and for export.

    Args:
        name: for people.
        kind: "classification" or "regression".
        train: what networks are fitted to.
        validation: what they are measured on during the search.
        test: the official or held-out part; empty if none was asked for.
        class_names: by class number; empty for regression.
        mean: of the training inputs, per feature (per channel for images), broadcastable to input_shape.
        scale: their standard deviation, 1 where that is 0.
        target_mean: of the training targets, per column; empty for classification.
        target_scale: their standard deviation.
    """

    name: str
    kind: Kind
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...] = ()
    mean: Floats
    scale: Floats
    target_mean: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    target_scale: Floats = field(default_factory=lambda: np.ones(0, np.float32))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch."""
        return tuple(int(size) for size in self.train.inputs.shape[1:])

    @property
    def outputs(self) -> int:
        """How many numbers a network returns per input: one per class, or one per target column."""
        return len(self.class_names) if self.kind == "classification" else int(self.train.targets.shape[1])

    def normalised(self, inputs: Array) -> Floats:
        """Stored inputs (n x input_shape) as float32 with the training split's mean 0 and standard deviation 1."""
        result: Floats = (inputs.astype(np.float32) - self.mean) / self.scale
        return result

    def summary(self) -> dict[str, Any]:
        """What it is, as plain JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "input_shape": list(self.input_shape),
            "outputs": self.outputs,
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """What a loader read, before it is checked, split and normalised by `prepare`.

    Args:
        inputs: n x input_shape, numbers; images as channels x height x width.
        targets: n class labels (numbers or text), or n x k numbers.
        validation: an official validation part (inputs, targets), if there is one.
        test: an official test part (inputs, targets), if there is one.
        kind: if the source says so; else it is inferred from the targets.
        class_names: names of the labels 0, 1, …, if the source has them.
        impute: NaN inputs are missing values, to be replaced by the median of their column's training values.
    """

    inputs: Array
    targets: Array
    validation: tuple[Array, Array] | None = None
    test: tuple[Array, Array] | None = None
    kind: Kind | None = None
    class_names: tuple[str, ...] | None = None
    impute: bool = False
