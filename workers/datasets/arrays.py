"""Data sets in named arrays: `.npz` files, and what a user's own function returns."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from workers.datasets.dataset import Array, DataError, Examples

Layout = Literal["as_is", "NHW", "NCHW", "NHWC"]
LAYOUTS = ("as_is", "NHW", "NCHW", "NHWC")

ALLOWED = (
    "x and y; or x_train and y_train, with x_test and y_test, x_validation and y_validation if there are such; or X, y "
    "and test_mask (published splits); or bytes_train, offsets_train and y_train (encoded images)"
)


def npz(path: Path, *, layout: Layout | None = None, split: int = 0) -> Examples:
    """Read a NumPy archive, without unpickling anything.

    Args:
        path: the file.
        layout: how images lie in the arrays, see `from_arrays`.
        split: which of the published splits, for archives that have a test_mask.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise DataError(f"{path} cannot be read as an .npz archive of plain arrays: {error}") from error
    return from_arrays(arrays, layout=layout, split=split)


def from_arrays(arrays: Mapping[str, Array], *, layout: Layout | None = None, split: int = 0) -> Examples:
    """Find out what the names mean.

    Args:
        arrays: x and y; or with the suffixes _train, _test, _validation; or one of the two layouts of `ALLOWED`.
        layout: "NHW" (grey images), "NCHW", "NHWC" or "as_is". By default uint8 arrays of 3 axes are NHW, arrays of 4
            axes are NHWC if only their last size looks like channels (1, 3 or 4), and everything else is as it is.
        split: which published split, if there is a test_mask.
    """
    if layout is not None and layout not in LAYOUTS:
        raise DataError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if {"bytes_train", "offsets_train", "y_train"} <= set(arrays):
        return _encoded_images(arrays)
    if {"X", "y", "test_mask"} <= set(arrays):
        return _published_split(arrays, split)
    names = {name.lower().replace("valid_", "validation_"): name for name in arrays}
    for plain, suffixed in (("x", "x_train"), ("y", "y_train"), ("x_validation", "x_val"), ("y_validation", "y_val")):
        given = [names[name] for name in (plain, suffixed) if name in names]
        if len(given) > 1:
            raise DataError(f"the arrays {given[0]!r} and {given[1]!r} mean the same; give one of them")
        if given:
            names[plain] = given[0]
    if not {"x", "y"} <= set(names):
        raise DataError(f"found the arrays {', '.join(sorted(arrays)) or '(none)'}; allowed are {ALLOWED}")
    pairs = {}
    for part in ("", "_validation", "_test"):
        inputs, targets = (arrays.get(names.get(letter + part, "")) for letter in "xy")
        if (inputs is None) != (targets is None):
            raise DataError(f"of x{part} and y{part} only one is there; both are needed")
        pairs[part] = None if inputs is None or targets is None else (_images(inputs, layout), np.asarray(targets))
    assert pairs[""] is not None  # x and y were found above
    return Examples(inputs=pairs[""][0], targets=pairs[""][1], validation=pairs["_validation"], test=pairs["_test"])


def _images(inputs: Array, layout: Layout | None) -> Array:
    array = np.asarray(inputs)
    if layout is None:
        if array.ndim == 3 and array.dtype == np.uint8:
            layout = "NHW"
        elif array.ndim == 4 and array.shape[3] in (1, 3, 4) and array.shape[1] not in (1, 3, 4):
            layout = "NHWC"
        else:
            layout = "as_is"
    if layout != "as_is" and array.ndim != len(layout):
        raise DataError(f"layout {layout} needs an array of {len(layout)} axes, got the shape {array.shape}")
    if layout == "NHW":
        return array[:, None]
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if layout == "NHWC" else array


def _published_split(arrays: Mapping[str, Array], split: int) -> Examples:
    """X, y, and packed bits per split that say which examples are its test examples."""
    masks, inputs, targets = arrays["test_mask"], arrays["X"], arrays["y"]
    if masks.ndim != 2 or masks.dtype != np.uint8:
        raise DataError(
            f"test_mask must hold one row of packed bits per split, got {masks.dtype} of shape {masks.shape}"
        )
    if isinstance(split, bool) or not isinstance(split, int) or not 0 <= split < len(masks):
        raise DataError(f"split must be a whole number from 0 to {len(masks) - 1}, got {split!r}")
    mask = np.unpackbits(masks[split])[: len(targets)].astype(bool)
    if len(mask) != len(targets) or len(inputs) != len(targets):
        raise DataError(f"there are {len(inputs)} inputs, {len(targets)} targets and {len(mask)} bits in the test mask")
    return Examples(inputs=inputs[~mask], targets=targets[~mask], test=(inputs[mask], targets[mask]))


def _encoded_images(arrays: Mapping[str, Array]) -> Examples:
    """Image k is bytes[offsets[k]:offsets[k+1]], a JPEG or PNG file."""
    parts = {}
    for part in ("train", "test"):
        names = [f"bytes_{part}", f"offsets_{part}", f"y_{part}"]
        if part == "test" and not set(names) & set(arrays):
            continue
        missing = [name for name in names if name not in arrays]
        if missing:
            raise DataError(f"the array {missing[0]!r} is missing; {', '.join(names)} belong together")
        encoded, offsets, targets = (arrays[name] for name in names)
        parts[part] = (_decoded(encoded, offsets), targets)
    classes = arrays.get("classes")
    names_of_classes = None if classes is None else tuple(str(name) for name in classes)
    return Examples(
        inputs=parts["train"][0],
        targets=parts["train"][1],
        test=parts.get("test"),
        kind="classification",
        class_names=names_of_classes,
    )


def _decoded(encoded: Array, offsets: Array) -> Array:
    from PIL import Image

    images = []
    for index, (start, end) in enumerate(pairwise(offsets)):
        try:
            with Image.open(io.BytesIO(encoded[start:end].tobytes())) as image:
                images.append(np.asarray(image.convert("RGB")))
        except (OSError, Image.DecompressionBombError) as error:
            raise DataError(f"image {index} cannot be decoded: {error}") from error
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise DataError(f"images must all have one size, got {len(shapes)} different ones")
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
