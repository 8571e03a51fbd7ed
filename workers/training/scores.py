"""What a network scores on a split."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.datasets.dataset import Dataset, Split

EVALUATION_BATCH = 1024
"""At most so many examples at once; twice the training batch if that is larger."""


def evaluation_batch(training_batch: int) -> int:
    """How many examples are scored at once in a training with batches of this size."""
    return max(EVALUATION_BATCH, 2 * training_batch)


@dataclass(frozen=True)
class Resident:
    """A split on the device, inputs as stored (uint8 images take a quarter of the memory) and normalised by batch."""

    inputs: Tensor
    targets: Tensor
    mean: Tensor
    scale: Tensor
    #: how batches lie in memory
    layout: torch.memory_format = torch.contiguous_format

    def __len__(self) -> int:
        return len(self.targets)

    def normalised(self, inputs: Tensor) -> Tensor:
        """Stored inputs (b x input_shape) as float32 with the training split's mean 0 and standard deviation 1."""
        return ((inputs.float() - self.mean) / self.scale).contiguous(memory_format=self.layout)

    def batch(self, index: slice) -> tuple[Tensor, Tensor]:
        """Normalised inputs (b x input_shape, float32) and targets."""
        return self.normalised(self.inputs[index]), self.targets[index]


def layout_for(network: nn.Module, input_shape: tuple[int, ...]) -> torch.memory_format:
    """How images lie best for a network: pixel by pixel if it has convolutions, whose kernels are quicker so.

    On CPUs, too: there a step of NAS-Bench-201's cells takes about a third less.
    """
    convolves = len(input_shape) == 3 and any(isinstance(module, nn.Conv2d) for module in network.modules())
    return torch.channels_last if convolves else torch.contiguous_format


def resident(
    split: Split, dataset: Dataset, device: torch.device, layout: torch.memory_format = torch.contiguous_format
) -> Resident:
    """Put a split on the device; regression targets standardised by the training split's mean and deviation."""
    targets = split.targets
    if dataset.kind == "regression":
        targets = (targets - dataset.target_mean) / dataset.target_scale
    # torch.tensor copies: the data set's arrays are read-only, which torch's shared views cannot express
    arrays = (split.inputs, targets, dataset.mean, dataset.scale)
    inputs, on_device, mean, scale = (torch.tensor(array, device=device) for array in arrays)
    return Resident(inputs, on_device, mean, scale, layout)


@torch.no_grad()
def score(network: nn.Module, data: Resident, dataset: Dataset, *, precision: str, batch_size: int) -> dict[str, float]:
    """Measure a network on a split, in evaluation mode.

    Returns:
        error, accuracy and loss for classification (cross-entropy without smoothing); rmse, r2 and loss (mean squared
        error) for regression, in the targets' own units. The device is waited for once, at the end.
    """
    was_training = network.training
    network.eval()
    outputs = []
    for at in range(0, len(data), batch_size):
        inputs, _ = data.batch(slice(at, at + batch_size))
        with autocast(inputs.device, precision):
            outputs.append(network(inputs))
    network.train(was_training)
    return scores_of(torch.cat(outputs).float().cpu(), data.targets.cpu(), dataset)


def scores_of(predicted: Tensor, targets: Tensor, dataset: Dataset) -> dict[str, float]:
    """What `score` returns, of what a network gives (b x outputs, float32) and should give, both on the CPU."""
    if dataset.kind == "classification":
        loss = float(functional.cross_entropy(predicted, targets))
        if not math.isfinite(loss):  # argmax of NaN is a class like any other
            return {"error": math.nan, "accuracy": math.nan, "loss": loss}
        accuracy = int((predicted.argmax(1) == targets).sum()) / len(targets)
        return {"error": 1.0 - accuracy, "accuracy": accuracy, "loss": loss}
    unit = torch.tensor(dataset.target_scale, dtype=torch.float64)
    residual = (predicted.double().reshape(targets.shape) - targets.double()) * unit
    centred = (targets.double() - targets.double().mean(0)) * unit
    return _regression_scores(residual.square().sum(0), centred.square().sum(0), len(targets))


def _regression_scores(squared_error: Tensor, squared_deviation: Tensor, count: int) -> dict[str, float]:
    """From sums per target column.

    Where a column does not vary, its R² is 1 for a perfect prediction and 0 else, as in scikit-learn.
    """
    mean_squared_error = float(squared_error.sum()) / (count * len(squared_error))
    constant = squared_deviation == 0
    ratio = squared_error / torch.where(constant, 1.0, squared_deviation)
    r2 = torch.where(constant, (squared_error == 0).double(), 1.0 - ratio)
    return {"rmse": math.sqrt(mean_squared_error), "r2": float(r2.mean()), "loss": mean_squared_error}


def precision_on(device: torch.device, precision: str) -> str:
    """The precision that "auto" stands for on a device; any other one as it is."""
    if precision != "auto":
        return precision
    # an older GPU emulates bfloat16, slower than float32
    has_it = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if has_it else "float32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a forward pass is computed."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision_on(device, precision) == "bfloat16")
