"""What is looked for before PyTorch is told of a kernel."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from predictors.zero_cost.activation_overlap import add_overlap
from workers.kernels.registration import implementations
from workers.kernels.self_check import deviations

CPU = torch.device("cpu")
NAMES = sorted(implementations())


def references() -> dict[str, Callable[..., Any]]:
    """The operators on the CPU."""
    found: dict[str, Callable[..., Any]] = {name: getattr(torch.ops.nas, name) for name in NAMES}
    return {**found, "activation_overlap": add_overlap}


def test_the_kernels_pass_it(device: torch.device) -> None:
    assert deviations(implementations(), device) == {}


def test_the_references_pass_it() -> None:
    assert deviations(references(), CPU) == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_that_gets_one_number_wrong_is_named(name: str) -> None:
    kernels = references()
    right = kernels[name]

    def wrong(*arguments: Any) -> Any:
        returned = right(*arguments)
        results = (arguments[0],) if returned is None else (returned,) if isinstance(returned, Tensor) else returned
        results[-1][tuple(size // 2 for size in results[-1].shape)] += 1
        return returned

    found = deviations({**kernels, name: wrong}, CPU)
    assert list(found) == [name]
    assert "off by up to" in found[name]


def test_a_kernel_that_cannot_be_launched_is_named() -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("an illegal memory access was encountered")

    found = deviations({**references(), "sum_relu": broken}, CPU)
    assert found == {"sum_relu": "with torch.float32: RuntimeError: an illegal memory access was encountered"}


def test_a_kernel_that_fails_with_bfloat16_alone_is_named() -> None:
    kernels = references()

    def half(x: Tensor, *arguments: Any) -> Any:
        if x.dtype == torch.bfloat16:
            raise RuntimeError("no such element")
        return torch.ops.nas.depthwise_conv2d(x, *arguments)

    assert deviations({**kernels, "depthwise_conv2d": half}, CPU) == {
        "depthwise_conv2d": "with torch.bfloat16: RuntimeError: no such element"
    }
