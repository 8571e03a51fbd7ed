"""activation_overlap: the kernel and its reference against counting bit by bit."""

import numpy as np
import pytest
import torch
from torch import Tensor

from predictors.zero_cost.activation_overlap import _reference, add_overlap
from workers.kernels.activation_overlap import activation_overlap


def counted(given: Tensor) -> np.ndarray:
    """By comparing every unit of every pair."""
    values = given.double().flatten(1).cpu().numpy()
    on = values > 0
    agree = (on[:, None] == on[None]).sum(-1)
    agree[np.diag_indices(len(on))] = np.isfinite(values).sum(1)
    return agree


def drawn(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """A third of the values are zeros, of both signs."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator)
    values[torch.rand(shape, generator=generator) < 1 / 3] *= 0.0
    return values.to(dtype)


SHAPES = [(1, 1), (5, 7), (33, 300), (64, 8, 6, 5), (128, 515), (130, 40), (7, 2048)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_reference_counts_units_alike_and_adds_to_what_is_there(shape: tuple[int, ...]) -> None:
    given = drawn(shape)
    total = torch.full((shape[0], shape[0]), 11, dtype=torch.int32)
    add_overlap(total, given)
    assert np.array_equal(total.numpy(), counted(given) + 11)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((5, 7), torch.float32),
        ((33, 304), torch.float32),
        ((5, 7), torch.bfloat16),
        ((33, 301), torch.bfloat16),
        ((64, 8, 6, 8), torch.bfloat16),
        ((33, 304), torch.float16),
        ((128, 1040), torch.float16),
    ],
)
def test_the_kernel_counts_units_alike(device: torch.device, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    given = drawn(shape, dtype, seed=3).to(device)
    total = torch.full((shape[0], shape[0]), 11, dtype=torch.int32, device=device)
    activation_overlap(total, given)
    assert np.array_equal(total.cpu().numpy(), counted(given) + 11)


@pytest.mark.parametrize("examples", [128, 130, 200])
def test_the_kernel_takes_any_number_of_examples(device: torch.device, examples: int) -> None:
    given = drawn((examples, 72), torch.bfloat16, seed=examples).to(device)
    total = torch.zeros(examples, examples, dtype=torch.int32, device=device)
    activation_overlap(total, given)
    assert np.array_equal(total.cpu().numpy(), counted(given))


def test_products_of_bytes_give_what_products_of_bits_give(device: torch.device) -> None:
    given = drawn((40, 1000), torch.float16).to(device)
    totals = [torch.zeros(40, 40, dtype=torch.int32, device=device) for _ in range(2)]
    for total, bits in zip(totals, (True, False), strict=True):
        activation_overlap(total, given, bits=bits)
    assert torch.equal(*totals)


def test_layouts_do_not_matter(device: torch.device) -> None:
    given = drawn((6, 8, 6, 8), torch.bfloat16).to(device)
    expected = counted(given)
    ways = [given, given.to(memory_format=torch.channels_last), given.permute(0, 2, 1, 3)]
    ways += [torch.stack([given, given], -1)[..., 0], torch.cat([given.flatten()[:1], given.flatten()])[1:].view(6, -1)]
    for way in ways:
        total = torch.zeros(6, 6, dtype=torch.int32, device=device)
        activation_overlap(total, way)
        assert np.array_equal(total.cpu().numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_diagonal_counts_what_is_finite(device: torch.device, dtype: torch.dtype) -> None:
    given = drawn((5, 48), dtype).to(device)
    given[1, 3] = float("nan")
    given[2, 40:] = float("-inf")
    given[4, 0], given[4, 47] = float("inf"), float("nan")
    totals = [torch.zeros(5, 5, dtype=torch.int32, device=device) for _ in range(2)]
    activation_overlap(totals[0], given)
    _reference(totals[1], given)
    assert totals[0].diagonal().tolist() == totals[1].diagonal().tolist() == [48, 47, 40, 48, 46]


def test_nothing_is_added_for_no_examples_or_units(device: torch.device) -> None:
    for shape in ((0, 5), (3, 0)):
        total = torch.zeros(shape[0], shape[0], dtype=torch.int32, device=device)
        activation_overlap(total, torch.zeros(shape, device=device))
        add_overlap(total, torch.zeros(shape, device=device))
        assert not total.any()


def test_a_total_that_does_not_fit_is_refused() -> None:
    for total in (torch.zeros(4, 4), torch.zeros(3, 4, dtype=torch.int32), torch.zeros(5, 5, dtype=torch.int32)):
        with pytest.raises(ValueError, match="contiguous int32 total of 4 x 4"):
            activation_overlap(total, torch.ones(4, 2))


@pytest.mark.slow
def test_pytorch_finds_nothing_wrong_with_the_operator() -> None:
    for shape in ((5, 7), (3, 2, 4, 4)):
        total = torch.zeros(shape[0], shape[0], dtype=torch.int32)
        torch.library.opcheck(torch.ops.nas.activation_overlap.default, (total, drawn(shape)))
