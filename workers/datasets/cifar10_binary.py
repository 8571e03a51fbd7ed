"""CIFAR-10's binary files.

Source: the format as described on the data set's page: records of 1 label byte and 3,072 pixel bytes (red, green, blue
planes of 32 x 32).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workers.datasets.dataset import Array, DataError, Examples

RECORD = 1 + 3 * 32 * 32


def is_cifar10_folder(path: Path) -> bool:
    """Whether the folder holds such files."""
    return any(path.glob("data_batch_*.bin"))


def cifar10_binary(path: Path) -> Examples:
    """Read a folder with data_batch_1.bin … for training, test_batch.bin for the official test split."""
    batches = sorted(path.glob("data_batch_*.bin"))
    pieces = [read_batch(file) for file in batches]
    test_file, names_file = path / "test_batch.bin", path / "batches.meta.txt"
    names = names_file.read_text().split() if names_file.is_file() else None
    return Examples(
        inputs=np.concatenate([inputs for inputs, _ in pieces]),
        targets=np.concatenate([targets for _, targets in pieces]),
        test=read_batch(test_file) if test_file.is_file() else None,
        kind="classification",
        class_names=tuple(names) if names else None,
    )


def read_batch(file: Path) -> tuple[Array, Array]:
    """Images (n x 3 x 32 x 32) and labels of one file."""
    content = np.fromfile(file, np.uint8)
    if content.size == 0 or content.size % RECORD:
        raise DataError(f"{file} is no CIFAR-10 batch: {content.size} bytes are no multiple of {RECORD}")
    records = content.reshape(-1, RECORD)
    if records[:, 0].max() > 9:
        raise DataError(f"{file} is no CIFAR-10 batch: it has the label {records[:, 0].max()}, allowed are 0 to 9")
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]
