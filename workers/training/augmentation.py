"""Images changed a little at every use, a whole batch at once, where the data lies.

What is done to an example is drawn for a whole epoch in advance (see `workers.training.epochs`); the functions here are
plain functions of those draws.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from workers.training.settings import TrainingSettings


def drawn(
    settings: TrainingSettings, *, examples: int, steps: int, input_shape: tuple[int, ...], generator: torch.Generator
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Draw what an epoch does to its examples, on the generator's device.

    Returns:
        Per example, of n: `moves` (n x 3: first row, first column, whether mirrored) and `holes` (n x 2: centre).
        Per step: `shares` (of each example in its blend). Only those that the settings ask for.
    """
    device = generator.device
    of_examples: dict[str, Tensor] = {}
    of_steps: dict[str, Tensor] = {}

    def whole(high: int) -> Tensor:
        return torch.randint(high, (examples,), generator=generator, device=device)

    if settings.crop or settings.flip:
        reach = 2 * settings.crop + 1
        of_examples["moves"] = torch.stack([whole(reach), whole(reach), whole(1 + settings.flip)], 1)
    if settings.cutout:
        of_examples["holes"] = torch.stack([whole(side) for side in input_shape[1:]], 1)
    if settings.mixup:
        # torch draws from a Beta distribution by the global generator only
        rng = np.random.default_rng(generator.initial_seed())
        shares = rng.beta(settings.mixup, settings.mixup, steps).astype(np.float32)
        of_steps["shares"] = torch.tensor(shares, device=device)
    return of_examples, of_steps


def moved(images: Tensor, moves: Tensor, crop: int) -> Tensor:
    """Shift and mirror each image, as a crop out of the image with `crop` pixels of zeros around it.

    Args:
        images: b x channels x height x width, as stored.
        moves: b x 3, see `drawn`.
        crop: pixels of the border.
    """
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) + moves[:, :1]
    columns = torch.arange(width, device=images.device)
    columns = torch.where(moves[:, 2:] == 1, width - 1 - columns, columns) + moves[:, 1:2]
    padded = functional.pad(images, (crop,) * 4) if crop else images
    each = torch.arange(len(images), device=images.device)[:, None, None, None]
    channels = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return padded[each, channels, rows[:, None, :, None], columns[:, None, None, :]]


def with_holes(images: Tensor, holes: Tensor, side: int) -> Tensor:
    """Set a square of each image to 0, its mean colour once it is normalised.

    The part of the square that lies outside of the image is lost. Source: DeVries & Taylor 2017, section 3.2.

    Args:
        images: b x channels x height x width, normalised.
        holes: b x 2, the squares' centres.
        side: of the squares, in pixels.
    """
    inside = []
    for axis in range(2):
        at = torch.arange(images.shape[2 + axis], device=images.device) - (holes[:, axis : axis + 1] - side // 2)
        inside.append((at >= 0) & (at < side))
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(hole, 0.0)


def blended(values: Tensor, share: Tensor) -> Tensor:
    """``share`` of each row and 1 - share of the row before it (mixup).

    The order of examples is random, so that the one before is a random partner. Source: Zhang et al. 2018, equation 1,
    with one share per batch, as in their own code.
    """
    return share * values + (1 - share) * values.roll(1, 0)
