"""sum_relu: the kernel and its reference against float64, forward, backward and twice backward."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from search_spaces.build import build
from search_spaces.catalogue.nas_bench_201 import from_string, nas_bench_201
from search_spaces.operations.residual import BasicBlock
from search_spaces.operations.sum_relu import activated_sum, sum_and_relu, sum_relu
from workers.kernels import registration

OPERATOR = torch.ops.nas.sum_relu
TOLERANCE = {torch.float64: 0.0, torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}


def drawn(shape: tuple[int, ...], count: int, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(count)]


def exact(values: Sequence[Tensor]) -> Tensor:
    return torch.stack([value.double().cpu() for value in values]).sum(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("shape", "count"), [((3, 5, 4, 2), 2), ((17,), 2), ((0, 4), 2)])
def test_the_kernel_gives_what_the_reference_gives(
    device: torch.device, shape: tuple[int, ...], count: int, dtype: torch.dtype
) -> None:
    values = [value.to(device) for value in drawn(shape, count, dtype)]
    kernels = registration.implementations()
    found = kernels["sum_relu"](values, True)
    expected = OPERATOR([value.cpu() for value in values], True)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.cpu(), other)
        assert one.stride() == other.stride()
    sums = exact(values)
    assert torch.allclose(found[1].double().cpu(), sums, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    gradient, second = (value.to(device) for value in drawn(shape, 2, dtype, seed=1))
    passed = kernels["sum_relu_backward"](gradient, second, found[2], False)
    wanted = torch.where(found[1].cpu() > 0, gradient.double().cpu(), 0.0) + second.double().cpu()
    assert torch.allclose(passed.double().cpu(), wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("count", [2, 8])
def test_the_kernel_takes_two_to_eight_values_of_any_layout(device: torch.device, count: int) -> None:
    kernels = registration.implementations()
    values = [value.to(device) for value in drawn((2, 16, 5, 3), count, torch.bfloat16)]
    ways = [values[0].to(memory_format=torch.channels_last), *values[1:]]  # the first one's layout is the result's
    ways[-1] = torch.cat([values[-1].flatten()[:1], values[-1].flatten()])[1:].view(2, 16, 5, 3)
    rectified, total, mask = kernels["sum_relu"](ways, False)
    assert rectified.is_contiguous(memory_format=torch.channels_last)
    assert not total.numel()
    expected, _, order = OPERATOR([way.cpu() for way in ways], False)
    assert torch.equal(rectified.cpu(), expected)
    assert torch.equal(mask.cpu(), order)
    gradient = torch.ones((), dtype=torch.bfloat16, device=device).expand(2, 16, 5, 3)
    passed = kernels["sum_relu_backward"](gradient, None, mask, True)
    assert torch.equal(passed.cpu(), (expected > 0).bfloat16())
    assert passed.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_of_the_operator_are_those_of_finite_differences(keep: bool, channels_last: bool) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    values = [value.to(memory_format=layout) for value in drawn((2, 3, 4, 2), 3, torch.float64)]
    leaves = tuple(value.requires_grad_() for value in values)

    def results(*given: Tensor) -> tuple[Tensor, ...]:
        rectified, total, _ = OPERATOR(list(given), keep)
        return (rectified, total) if keep else (rectified,)

    assert torch.autograd.gradcheck(results, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(results, leaves, fast_mode=True)


def test_on_the_cpu_it_is_pytorch_itself() -> None:
    values = [value.requires_grad_() for value in drawn((4, 3, 5, 5), 3, torch.float32)]
    found = activated_sum(values, nn.ReLU())
    assert torch.equal(found, torch.relu(values[0] + values[1] + values[2]))
    assert found.grad_fn is not None
    assert found.grad_fn.name() == "ReluBackward0"


@pytest.fixture
def accelerated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Networks use the operator on the CPU too, with its reference; the list says in which way, each time."""
    used: list[str] = []

    def one(values: Sequence[Tensor]) -> Tensor:
        used.append("rectified")
        return sum_relu(values)

    def both(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        used.append("both")
        return sum_and_relu(values)

    for module in ("search_spaces.network", "search_spaces.operations.sum_relu"):
        monkeypatch.setattr(f"{module}.is_accelerated", lambda values: 2 <= len(values) <= 8)
        monkeypatch.setattr(f"{module}.sum_relu", one)
    monkeypatch.setattr("search_spaces.network.sum_and_relu", both)
    return used


def outputs_and_gradients(network: nn.Module, inputs: Tensor) -> list[Tensor]:
    outputs = network(inputs)
    return [outputs, *torch.autograd.grad(outputs.square().sum(), list(network.parameters()), materialize_grads=True)]


CELLS = [
    "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|",
    "|skip_connect~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|none~0|nor_conv_1x1~1|skip_connect~2|",
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
]


@pytest.mark.parametrize("text", CELLS)
def test_a_network_whose_nodes_make_sum_and_relu_together_is_the_same_network(
    accelerated: list[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    space = nas_bench_201(channels=4, cells=2, stages=2)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = build(space, from_string(text), (3, 8, 8), 4).double()
    inputs = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = outputs_and_gradients(network, inputs)
    assert accelerated
    monkeypatch.setattr("search_spaces.network.is_accelerated", lambda values: False)
    for one, other in zip(found, outputs_and_gradients(network, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_sum_that_only_relus_read_is_not_kept(accelerated: list[str]) -> None:
    space = nas_bench_201(channels=4, cells=1, stages=1)
    cell = from_string(CELLS[2])
    build(space, cell, (3, 8, 8), 4)(torch.zeros(2, 3, 8, 8))
    assert set(accelerated) == {"rectified"}
    accelerated.clear()
    build(space, from_string(CELLS[1]), (3, 8, 8), 4)(torch.zeros(2, 3, 8, 8))
    assert not accelerated  # its sums are read by a skip connection and by the next block


def test_who_hooks_into_a_network_sees_what_its_modules_are_given(accelerated: list[str]) -> None:
    network = build(nas_bench_201(channels=4, cells=1, stages=1), from_string(CELLS[2]), (3, 8, 8), 4)
    seen: list[Tensor] = []
    for name, module in network.named_modules():
        if name.endswith("2_to_3.activation"):
            module.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    network(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    assert any((value < 0).any() for value in seen)


def test_a_residual_block_uses_it(accelerated: list[str]) -> None:
    block = BasicBlock(4, 4)
    block(torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1)))
    assert accelerated == ["rectified"]
    block.activation.register_forward_hook(lambda *_: None)
    block(torch.zeros(2, 4, 6, 6))
    assert accelerated == ["rectified"]


def test_nan_passes_as_in_pytorch() -> None:
    values = [torch.tensor([float("nan"), -1.0, 1.0]), torch.zeros(3)]
    rectified, _, mask = OPERATOR(values, False)
    assert rectified.isnan().tolist() == [True, False, False]
    assert mask.tolist() == [0b101]


@pytest.mark.parametrize("shape", [(2, 3, 4, 2), (0, 3)])
def test_pytorch_finds_nothing_wrong_with_the_operators(shape: tuple[int, ...]) -> None:
    values = [value.requires_grad_() for value in drawn(shape, 3, torch.float32)]
    torch.library.opcheck(OPERATOR.default, (values, True))
    torch.library.opcheck(OPERATOR.default, (values, False))
    mask = OPERATOR(values, False)[2]
    gradient, other = drawn(shape, 2, torch.float32, seed=1)
    torch.library.opcheck(
        torch.ops.nas.sum_relu_backward.default, (gradient.requires_grad_(), other.requires_grad_(), mask, False)
    )
    torch.library.opcheck(torch.ops.nas.sum_relu_backward.default, (gradient, None, mask, False))
