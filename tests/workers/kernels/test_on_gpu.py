"""What a GPU alone can show: registered kernels under autograd, autocast and graph capture, inside whole networks."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn import functional

from predictors.zero_cost.batch import Batch
from predictors.zero_cost.naswot import naswot
from search_spaces.build import build
from search_spaces.catalogue.nas_bench_201 import from_string, nas_bench_201
from search_spaces.operations import sum_relu as summing
from search_spaces.operations.convolution import ConvBatchNorm
from search_spaces.operations.residual import BasicBlock
from workers.kernels import register

pytestmark = pytest.mark.cuda

CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"


@pytest.fixture(autouse=True)
def kernels() -> None:
    pytest.importorskip("cuda.core", reason="needs cuda-core: pip install '.[cuda]'")
    assert register()


def network() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return build(nas_bench_201(channels=8, cells=2, stages=2), from_string(CELL), (3, 16, 16), 10)


def test_a_network_gives_on_the_gpu_what_it_gives_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    real = summing.sum_and_relu
    monkeypatch.setattr("search_spaces.network.sum_and_relu", lambda values: used.append(1) or real(values))
    inputs = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    here, there = network().double(), network().double().cuda()
    expected, found = here(inputs), there(inputs.cuda())
    assert used
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-6, atol=1e-6)
    for result in (expected, found):
        result.square().sum().backward()
    for one, other in zip(there.parameters(), here.parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(one.grad.cpu(), other.grad, rtol=1e-5, atol=1e-6)


def test_a_thread_that_has_asked_nothing_of_the_gpu_yet_may_launch_a_kernel() -> None:
    values = [torch.randn(2, 3, 4, 4, device="cuda") for _ in range(3)]
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(summing.sum_relu, values).result()
    torch.testing.assert_close(found, sum(values).relu())


def test_naswot_gives_on_the_gpu_what_it_gives_on_the_cpu() -> None:
    batch = Batch(inputs=torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(1)), targets=torch.ones(24))
    there = Batch(inputs=batch.inputs.cuda(), targets=batch.targets.cuda())
    loss = functional.mse_loss
    assert naswot(network().cuda(), there, loss) == pytest.approx(naswot(network(), batch, loss), rel=1e-3)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_training_step_is_captured_and_replayed(precision: torch.dtype) -> None:
    layers = nn.Sequential(
        ConvBatchNorm(8, 8, 5, groups=8), BasicBlock(8, 8), ConvBatchNorm(8, 8, 3, 2, groups=8), nn.Flatten()
    )
    layers = layers.cuda().to(memory_format=torch.channels_last)
    again = copy.deepcopy(layers)
    inputs = torch.randn(4, 8, 12, 12, device="cuda").to(memory_format=torch.channels_last)

    def step(module: nn.Module) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = module(inputs).float().square().mean()
        module.zero_grad(set_to_none=False)
        loss.backward()
        return loss

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(layers)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(layers)
    inputs.copy_(torch.randn(4, 8, 12, 12, device="cuda"))
    graph.replay()
    step(again)
    for one, other in zip(layers.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-2, atol=1e-3)
