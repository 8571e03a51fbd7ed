"""Image folders: one folder per class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from workers.datasets.dataset import Array, DataError, Examples

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
PARTS = {
    "training": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test",),
}
"""A folder that has a part's folder for training is taken apart; the classes then lie one level deeper."""

STRAY = 10_000
"""So much else may lie among images, beside as much as there are images: somebody's whole disk is not searched."""


def image_folder(
    path: Path,
    *,
    image_size: int | Sequence[int] | None = None,
    color: Literal["auto", "rgb", "gray"] = "auto",
) -> Examples:
    """Read `path/<class>/<image>`, or `path/train/<class>/<image>` with `validation` and `test` beside it.

    Args:
        path: the folder. Names that start with a dot are passed over.
        image_size: resize (bilinearly) to this height and width; needed if the images differ in size.
        color: "rgb", "gray", or "auto": gray if all images are.
    """
    if color not in ("auto", "rgb", "gray"):
        raise DataError(f"color must be 'auto', 'rgb' or 'gray', got {color!r}")
    size = _size(image_size)
    folders = {part: next((path / n for n in names if (path / n).is_dir()), None) for part, names in PARTS.items()}
    if folders["training"] is None:
        folders = {"training": path}
    files = {part: _files(folder) for part, folder in folders.items() if folder is not None}
    classes = sorted({label for _, label in files["training"]})
    for part, pairs in files.items():
        unknown = sorted({label for _, label in pairs} - set(classes))
        if unknown:
            raise DataError(f"class folder {unknown[0]!r} is in the {part} part but not in the training part")
    everything = [file for pairs in files.values() for file, _ in pairs]
    mode = {"rgb": "RGB", "gray": "L"}.get(color) or _common_mode(everything)
    read = {
        part: (_read(pairs, mode, size), np.asarray([classes.index(label) for _, label in pairs]))
        for part, pairs in files.items()
    }
    return Examples(
        inputs=read["training"][0],
        targets=read["training"][1],
        validation=read.get("validation"),
        test=read.get("test"),
        kind="classification",
        class_names=tuple(classes),
    )


def _size(image_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    sizes = [image_size, image_size] if isinstance(image_size, int) else list(image_size)
    if len(sizes) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in sizes):
        raise DataError(f"image_size must be a whole number or [height, width], got {image_size!r}")
    return sizes[0], sizes[1]


def _files(folder: Path) -> list[tuple[Path, str]]:
    pairs: list[tuple[Path, str]] = []
    others = 0
    for group in sorted(folder.iterdir()):
        if not group.is_dir() or group.name.startswith("."):
            continue
        images: list[Path] = []
        for place, folders, names in os.walk(group):
            found = [Path(place, name) for name in names if not name.startswith(".")]
            found = [file for file in found if file.suffix.lower() in SUFFIXES and file.is_file()]
            images += found
            others += len(folders) + len(names) - len(found)
            if others > STRAY + len(pairs) + len(images):
                raise DataError(
                    f"{folder} is no folder of images: it holds more than {STRAY} other files and folders (the last of "
                    f"them in {place}); one folder per class is needed, with {', '.join(sorted(SUFFIXES))} files"
                )
        pairs += [(file, group.name) for file in sorted(images)]
    if not pairs:
        raise DataError(
            f"{folder} holds no images; one folder per class is needed, with {', '.join(sorted(SUFFIXES))} files"
        )
    return pairs


def _common_mode(files: list[Path]) -> str:
    from PIL import Image

    for file in files:
        try:
            with Image.open(file) as image:
                if image.mode not in ("L", "1"):
                    return "RGB"
        except (OSError, Image.DecompressionBombError) as error:
            raise DataError(f"{file} cannot be read as an image: {error}") from error
    return "L"


def _read(pairs: list[tuple[Path, str]], mode: str, size: tuple[int, int] | None) -> Array:
    """Images as n x channels x height x width, uint8."""
    from PIL import Image

    images = []
    for file, _ in pairs:
        try:
            with Image.open(file) as image:
                converted = image.convert(mode)
                if size is not None:
                    converted = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
                images.append(np.asarray(converted))
        except (OSError, Image.DecompressionBombError) as error:
            raise DataError(f"{file} cannot be read as an image: {error}") from error
        if images[-1].shape != images[0].shape:
            (height, width), (other_height, other_width) = images[0].shape[:2], images[-1].shape[:2]
            raise DataError(
                f"images differ in size: {pairs[0][0].name} is {width} x {height}, {file.name} is {other_width} x "
                f"{other_height} (width x height); pass image_size=… to resize them all"
            )
    stacked = np.stack(images)
    return stacked[:, None] if stacked.ndim == 3 else np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))
