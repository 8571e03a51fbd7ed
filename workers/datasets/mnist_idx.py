"""MNIST's own files (IDX), plain or gzipped.

Source: the format as described on the data set's page: magic 0, 0, type (8 = unsigned bytes), number of axes; one
big-endian 32-bit size per axis; the bytes.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from workers.datasets.dataset import Array, DataError, Examples

NAMES = {
    "x_train": "train-images",
    "y_train": "train-labels",
    "x_test": "t10k-images",
    "y_test": "t10k-labels",
}


def is_mnist_folder(path: Path) -> bool:
    """Whether the folder holds such files."""
    return _find(path, NAMES["x_train"]) is not None


def mnist_idx(path: Path) -> Examples:
    """Read a folder with train-images… and train-labels… files, and t10k-… beside them as the official test split."""
    read = {}
    for key, name in NAMES.items():
        file = _find(path, name)
        if file is not None:
            read[key] = read_idx(file)
        elif key == "y_train" or ("x_test" in read) != (_find(path, NAMES["y_test"]) is not None):
            raise DataError(f"{path} has no file {name}…; images and labels are both needed")
    for key in ("x_train", "x_test"):
        if key in read and read[key].ndim != 3:
            raise DataError(f"{NAMES[key]}… must hold images x height x width, got the shape {read[key].shape}")
    test = (read["x_test"][:, None], read["y_test"]) if "x_test" in read else None
    return Examples(inputs=read["x_train"][:, None], targets=read["y_train"], test=test, kind="classification")


def read_idx(file: Path) -> Array:
    """The array of unsigned bytes in one IDX file."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{file} is not an IDX file of unsigned bytes: it starts with {content[:4].hex(' ')}")
    axes = content[3]
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", axes, 4))
    body = np.frombuffer(content, np.uint8, -1, 4 + 4 * axes)
    if body.size != int(np.prod(shape, dtype=np.int64)):
        raise DataError(f"{file} is cut short or too long: its header says {shape}, it holds {body.size} bytes")
    return body.reshape(shape)


def _find(path: Path, name: str) -> Path | None:
    found = sorted(file for file in path.glob(f"{name}*") if ".idx" in file.name or "-idx" in file.name)
    return found[0] if found else None
