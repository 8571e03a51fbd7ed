"""depthwise_conv2d: the kernels against float64, forward and backward; the operator against finite differences."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.operations.convolution import ConvBatchNorm
from search_spaces.operations.depthwise import convolved
from workers.kernels import registration
from workers.kernels.compile import Program

OPERATORS = torch.ops.nas
CASES = [  # batch, channels, height, width, kernel, stride
    (2, 6, 7, 9, 3, 1),
    (2, 6, 9, 7, 3, 2),
    (3, 4, 5, 4, 5, 1),
    (1, 70, 5, 9, 5, 2),
    (1, 5, 6, 3, 7, 2),
    (0, 4, 6, 6, 3, 1),
]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}


def drawn(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.to(dtype)


def distance(found: Tensor, exact: Tensor) -> float:
    return float((found.double().cpu() - exact).norm() / exact.norm().clamp(min=1e-30))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_kernels_convolve_and_differentiate(device: torch.device, case: tuple[int, ...]) -> None:
    batch, channels, height, width, kernel, stride = case
    dtype = torch.float32 if channels % 2 else torch.bfloat16
    x = drawn((batch, channels, height, width), 0, dtype).to(device)
    weight = drawn((channels, 1, kernel, kernel), 1, dtype).to(device)
    exact_x, exact_weight = (value.double().cpu().requires_grad_() for value in (x, weight))
    exact = functional.conv2d(exact_x, exact_weight, None, stride, kernel // 2, groups=channels)
    kernels = registration.implementations()
    found = kernels["depthwise_conv2d"](x.contiguous(memory_format=torch.channels_last), weight, stride)
    assert found.shape == exact.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert distance(found, exact.detach()) <= TOLERANCE[dtype]
    gradient = drawn(tuple(exact.shape), 2, dtype).to(device)
    wanted = torch.autograd.grad(exact, (exact_x, exact_weight), gradient.double().cpu())
    got = kernels["depthwise_conv2d_backward"](gradient, x, weight, stride, True, True)
    for one, other in zip(got, wanted, strict=True):
        assert one.shape == other.shape
        assert distance(one, other) <= TOLERANCE[dtype]


def test_inputs_of_any_layout_and_address_are_taken(device: torch.device) -> None:
    kernels = registration.implementations()
    x, weight = drawn((2, 6, 7, 9), 0, torch.bfloat16).to(device), drawn((6, 1, 3, 3), 1, torch.bfloat16).to(device)
    expected = kernels["depthwise_conv2d"](x.contiguous(memory_format=torch.channels_last), weight, 1)
    odd = torch.cat([x.permute(0, 2, 3, 1).flatten()[:1], x.permute(0, 2, 3, 1).flatten()])[1:]
    for way in (x, odd.view(2, 7, 9, 6).permute(0, 3, 1, 2), x.transpose(2, 3).contiguous().transpose(2, 3)):
        assert torch.equal(kernels["depthwise_conv2d"](way, weight, 1), expected)
    gradient = torch.ones((), dtype=torch.bfloat16, device=device).expand(2, 6, 7, 9)
    first, nothing = kernels["depthwise_conv2d_backward"](gradient, x, weight, 1, True, False)
    nothing_either, second = kernels["depthwise_conv2d_backward"](gradient, x, weight, 1, False, True)
    assert not nothing.numel()
    assert not nothing_either.numel()
    assert first.shape == x.shape
    assert second.shape == weight.shape


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 2)])
def test_gradients_of_the_operator_are_those_of_finite_differences(kernel: int, stride: int) -> None:
    x = drawn((1, 2, 4, 3), 0, torch.float64).requires_grad_()
    weight = drawn((2, 1, kernel, kernel), 1, torch.float64).requires_grad_()

    def convolution(x: Tensor, weight: Tensor) -> Tensor:
        result: Tensor = OPERATORS.depthwise_conv2d(x, weight, stride)
        return result

    assert torch.autograd.gradcheck(convolution, (x, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(convolution, (x, weight), fast_mode=True)


@pytest.mark.slow
def test_pytorch_finds_nothing_wrong_with_the_operators() -> None:
    x, weight = drawn((2, 3, 5, 4), 0, torch.float32), drawn((3, 1, 3, 3), 1, torch.float32)
    torch.library.opcheck(OPERATORS.depthwise_conv2d.default, (x.requires_grad_(), weight.requires_grad_(), 2))
    gradient = drawn((2, 3, 3, 2), 2, torch.float32).requires_grad_()
    torch.library.opcheck(OPERATORS.depthwise_conv2d_backward.default, (gradient, x, weight, 2, True, True))


def test_a_block_gives_its_convolution_to_the_chooser_and_on_the_cpu_that_is_pytorch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block = ConvBatchNorm(4, 4, 3, groups=4)
    x = drawn((2, 4, 5, 5), 0, torch.float32)
    assert torch.equal(convolved(block.convolution, x), block.convolution(x))
    seen: list[nn.Conv2d] = []

    def chosen(convolution: nn.Conv2d, x: Tensor) -> Tensor:
        seen.append(convolution)
        return convolved(convolution, x)

    monkeypatch.setattr("search_spaces.operations.convolution.convolved", chosen)
    block(x)
    assert seen == [block.convolution]


def test_a_program_is_made_for_the_width(device: torch.device) -> None:
    from workers.kernels.depthwise_conv2d import _program

    weight = torch.zeros(6, 1, 3, 3)
    programs: list[Program] = [_program(weight, 1, width) for width in (4, 7, 12, 14, 112)]
    assert [dict(program.defines)["TILE"] for program in programs] == [4, 8, 4, 8, 8]
    assert dict(_program(torch.zeros(5, 1, 3, 3), 1, 7).defines)["CHANNELS"] == 1
