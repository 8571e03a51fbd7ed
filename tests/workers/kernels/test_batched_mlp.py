"""batched_mlp: the kernel and its reference against each candidate's layer alone, in float64."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from search_spaces.operations.batched_mlp import Grouping, Part, grouped_linear
from workers.kernels import registration

OPERATOR = torch.ops.nas.batched_mlp
BACKWARD = torch.ops.nas.batched_mlp_backward
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}

ODD = [(7, 5), (7, 5), (1, 33), (40, 3), (7, 5), (33, 70)]
EQUAL = [(6, 4)] * 3


def grouping(shapes: list[tuple[int, int]], *, gap: int = 0) -> tuple[Grouping, int, int]:
    """Candidates one behind the other, `gap` input rows that nobody reads before each; also all rows, all weights."""
    parts, reads, writes, weight = [], gap, 0, 0
    for inputs, outputs in shapes:
        parts.append(Part(reads=reads, inputs=inputs, writes=writes, outputs=outputs, weight=weight))
        reads, writes, weight = reads + inputs + gap, writes + outputs, weight + inputs * outputs
    return Grouping(tuple(parts)), reads, weight


def drawn(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) / 4).to(dtype)


def one_by_one(x: Tensor, weight: Tensor, bias: Tensor | None, group: Grouping) -> Tensor:
    """Every candidate's own `linear`."""
    outputs = []
    for part in group.parts:
        own = weight[part.weight : part.weight + part.outputs * part.inputs].view(part.outputs, part.inputs)
        given = x[part.reads : part.reads + part.inputs].T
        outputs.append(
            functional.linear(given, own, None if bias is None else bias[part.writes : part.writes + part.outputs]).T
        )
    return torch.cat(outputs)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize(
    ("shapes", "batch", "gap", "with_bias"),
    [(ODD, 66, 0, True), (EQUAL, 5, 0, False), (ODD, 3, 2, False), ([(20, 10)], 1, 1, True), (EQUAL, 0, 0, True)],
)
def test_the_kernel_gives_what_each_layer_gives_alone(
    device: torch.device, shapes: list[tuple[int, int]], batch: int, gap: int, dtype: torch.dtype, with_bias: bool
) -> None:
    group, rows, weights = grouping(shapes, gap=gap)
    x, weight = drawn(rows, batch, dtype=dtype, seed=0), drawn(weights, dtype=dtype, seed=1)
    bias = drawn(group.rows, dtype=dtype, seed=2) if with_bias else None
    gradient = drawn(group.rows, batch, dtype=dtype, seed=3)
    leaves = [value.double().requires_grad_() for value in (x, weight, *(() if bias is None else (bias,)))]
    expected = one_by_one(leaves[0], leaves[1], leaves[2] if with_bias else None, group)
    wanted = torch.autograd.grad(expected, leaves, gradient.double())
    kernels, table = registration.implementations(), group.table(device)
    there = [value if value is None else value.to(device) for value in (x, weight, bias)]
    found = kernels["batched_mlp"](*there, table, group.rows, *group.widest)
    gradients = kernels["batched_mlp_backward"](
        gradient.to(device), there[0], there[1], table, *group.widest, [True, True, with_bias]
    )
    close = {"rtol": TOLERANCE[dtype], "atol": 4 * TOLERANCE[dtype]}
    torch.testing.assert_close(found.cpu().double(), expected.detach(), **close)
    for one, other in zip(gradients, wanted, strict=False):
        torch.testing.assert_close(one.cpu().double(), other, **close)
    assert gradients[0].dtype == dtype


def test_the_kernel_reads_what_is_not_contiguous_and_makes_only_what_is_asked(device: torch.device) -> None:
    group, rows, weights = grouping(ODD)
    x = drawn(5, rows, dtype=torch.float32, seed=0).T
    weight = drawn(2 * weights, dtype=torch.float32, seed=1)[::2]
    gradient = drawn(5, dtype=torch.float32, seed=3).expand(group.rows, 5)
    expected = one_by_one(x, weight, None, group)
    kernels, table = registration.implementations(), group.table(device)
    there = [value.to(device) for value in (x, weight)]
    found = kernels["batched_mlp"](*there, None, table, group.rows, *group.widest)
    torch.testing.assert_close(found.cpu(), expected)
    backward = kernels["batched_mlp_backward"]
    everything = BACKWARD(gradient, x, weight, group.table(torch.device("cpu")), *group.widest, [True, True, True])
    for index in range(3):
        asked = [index == place for place in range(3)]
        results = backward(gradient.to(device), *there, table, *group.widest, asked)
        for place, (result, other) in enumerate(zip(results, everything, strict=True)):
            assert (result.numel() > 0) == asked[place]
            if asked[place]:
                torch.testing.assert_close(result.cpu(), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shapes", "gap"), [(ODD, 0), (EQUAL, 0), (ODD, 1)])
def test_on_the_cpu_values_and_gradients_are_those_of_each_layer_alone(shapes: list[tuple[int, int]], gap: int) -> None:
    group, rows, weights = grouping(shapes, gap=gap)
    leaves = [
        drawn(*shape, dtype=torch.float64, seed=seed).requires_grad_()
        for seed, shape in enumerate([(rows, 6), (weights,), (group.rows,)])
    ]
    found, expected = grouped_linear(*leaves, group), one_by_one(*leaves, group)
    assert "nas" not in str(found.grad_fn), "the operator's dispatch costs more than products on a CPU"
    torch.testing.assert_close(found, expected)
    gradient = drawn(*found.shape, dtype=torch.float64, seed=9)
    for one, other in zip(
        torch.autograd.grad(found, leaves, gradient), torch.autograd.grad(expected, leaves, gradient), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_neighbours_of_equal_shape_are_one_product() -> None:
    group, _, _ = grouping(EQUAL)
    (run,) = group.runs.parts
    assert run == replace(group.parts[0], count=3)
    apart, _, _ = grouping(EQUAL, gap=1)
    assert apart.runs.parts == apart.parts
    mixed, _, _ = grouping(ODD)
    assert [run.count for run in mixed.runs.parts] == [2, 1, 1, 1, 1]


def test_a_candidate_with_nan_is_alone_with_it() -> None:
    group, rows, weights = grouping(EQUAL)
    x, weight = drawn(rows, 4, dtype=torch.float32, seed=0), drawn(weights, dtype=torch.float32, seed=1)
    weight[30] = torch.nan  # the second candidate's
    x.requires_grad_()
    found = grouped_linear(x, weight, None, group)
    found.sum().backward()
    assert x.grad is not None
    assert found.isnan().any(1).tolist() == [False] * 4 + [index == 5 - 4 for index in range(4)] + [False] * 4
    assert x.grad.isnan().any(1).nonzero().flatten().tolist() == [6]


def test_under_autocast_it_is_computed_as_a_linear_layer_is() -> None:
    group, rows, weights = grouping(ODD)
    x, weight = drawn(rows, 4, dtype=torch.float32, seed=0), drawn(weights, dtype=torch.float32, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = grouped_linear(x, weight, None, group), one_by_one(x, weight, None, group)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected)


def test_a_group_of_nobody_and_one_with_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        Grouping(())
    parts = grouping(EQUAL)[0].parts
    with pytest.raises(ValueError, match="one behind the other: expected are 4 and 24"):
        Grouping((parts[0], parts[2]))


@pytest.mark.slow
def test_pytorch_finds_nothing_wrong_with_the_operators() -> None:
    group, rows, weights = grouping([(3, 2), (3, 2), (2, 4)])
    table = group.table(torch.device("cpu"))
    x = drawn(rows, 5, dtype=torch.float32, seed=0).requires_grad_()
    weight = drawn(weights, dtype=torch.float32, seed=1).requires_grad_()
    bias = drawn(group.rows, dtype=torch.float32, seed=2).requires_grad_()
    torch.library.opcheck(OPERATOR.default, (x, weight, bias, table, group.rows, *group.widest))
    gradient = drawn(group.rows, 5, dtype=torch.float32, seed=3)
    for asked in ([True, True, True], [False, True, False]):
        arguments = (gradient, x.detach(), weight.detach(), table, *group.widest, asked)
        torch.library.opcheck(BACKWARD.default, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("with_bias", [True, False])
def test_gradients_of_the_operator_are_those_of_each_layer_alone(with_bias: bool) -> None:
    group, rows, weights = grouping([(3, 2), (3, 2), (2, 4)])
    table = group.table(torch.device("cpu"))
    x = drawn(rows, 5, dtype=torch.float32, seed=0).requires_grad_()
    weight = drawn(weights, dtype=torch.float32, seed=1).requires_grad_()
    bias = drawn(group.rows, dtype=torch.float32, seed=2).requires_grad_() if with_bias else None
    gradient = drawn(group.rows, 5, dtype=torch.float32, seed=3)
    leaves = [value for value in (x, weight, bias) if value is not None]
    found = OPERATOR(x, weight, bias, table, group.rows, *group.widest)
    for one, other in zip(
        torch.autograd.grad(found, leaves, gradient),
        torch.autograd.grad(one_by_one(x, weight, bias, group), leaves, gradient),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
