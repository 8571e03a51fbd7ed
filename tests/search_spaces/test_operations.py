from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.catalogue.mlp import mlp
from search_spaces.catalogue.mobile_cnn import mobile_cnn
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.catalogue.residual_cnn import residual_cnn
from search_spaces.loading import load_object
from search_spaces.nodes import Cell, Choice, Node, Op, Repeat, Shared
from search_spaces.operations.basic import Flatten, Identity, Zero
from search_spaces.operations.convolution import ConvBatchNorm, DepthwiseSeparable, ReluConvBatchNorm, Stem
from search_spaces.operations.dense import ACTIVATIONS, NORMALIZATIONS, DenseLayer
from search_spaces.operations.heads import ClassifierHead, LinearHead, PoolingHead
from search_spaces.operations.pooling import AveragePool, MaximumPool
from search_spaces.operations.residual import (
    BasicBlock,
    BottleneckBlock,
    InvertedResidual,
    ReductionBlock,
    SeparableBlock,
)
from search_spaces.operations.squeeze_excite import SqueezeExcite

BLOCKS = [BasicBlock, BottleneckBlock, InvertedResidual, SeparableBlock]


def images(channels: int = 4, size: int = 7) -> Tensor:
    return torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(0))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def operations(node: Node) -> Iterator[Op]:
    """Every Op below a node."""
    if isinstance(node, Op):
        yield node
        below: list[Node] = list(node.settings.values())
    elif isinstance(node, Choice):
        below = list(node.options.values())
    elif isinstance(node, Cell):
        below = list(node.edges.values())
    elif isinstance(node, Repeat):
        below = [node.body]
    elif isinstance(node, Shared):
        below = [node.node]
    else:
        below = list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
    for part in below:
        yield from operations(part)


PROMISING = {
    op.factory: op
    for space in (nas_bench_201(), residual_cnn(), mobile_cnn(), mlp())
    for op in operations(space.root)
    if op.traits
}


@pytest.mark.parametrize("factory", PROMISING, ids=str)
def test_what_the_ready_spaces_promise_of_an_operation_is_true(factory: str) -> None:
    op = PROMISING[factory]
    settings = {name: value for name, value in op.settings.items() if isinstance(value, int | float | str)}
    module = load_object(factory)(**settings).train()
    x = images()
    if "identity" in op.traits:
        assert torch.equal(module(x), x)
    if "zero" in op.traits:
        assert torch.equal(module(x), torch.zeros_like(x))
    if "weightless" in op.traits:
        assert not module.state_dict()
        assert torch.equal(module(x), module(x))
    if "zero_preserving" in op.traits:
        assert not module(torch.zeros_like(x)).any()


def test_zero_is_zero_for_inputs_that_are_not_finite() -> None:
    assert not Zero()(torch.tensor([[float("nan"), float("inf")]])).any()


def test_flatten_leaves_rows_of_features_alone() -> None:
    assert Flatten()(torch.zeros(2, 5)).shape == (2, 5)
    assert Flatten()(torch.zeros(2, 3, 4, 5)).shape == (2, 60)


@pytest.mark.parametrize("stride", [1, 2])
def test_average_pool_counts_only_what_lies_in_the_image(stride: int) -> None:
    x = images(1, 5)
    pooled = AveragePool(3, stride)(x).numpy()
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    for row in range(pooled.shape[2]):
        for column in range(pooled.shape[3]):
            window = padded[:, :, row * stride : row * stride + 3, column * stride : column * stride + 3]
            np.testing.assert_allclose(pooled[:, :, row, column], np.nanmean(window, axis=(2, 3)), rtol=1e-5, atol=1e-6)


def test_maximum_pool_takes_the_largest_of_each_window() -> None:
    x = images(1, 4)
    pooled = MaximumPool(3, 2)(x)
    assert pooled.shape == (3, 1, 2, 2)
    assert torch.equal(pooled[:, :, 0, 0], x[:, :, :2, :2].amax((2, 3)))


@pytest.mark.parametrize("kernel_size", [0, 2])
def test_a_kernel_without_a_middle_is_refused(kernel_size: int) -> None:
    with pytest.raises(ValueError, match=f"kernel_size must be odd and at least 1, got {kernel_size}"):
        AveragePool(kernel_size)


def test_relu_conv_batch_norm_is_what_its_name_says() -> None:
    module, x = ReluConvBatchNorm(4, kernel_size=3), images()
    convolved = functional.conv2d(x.relu(), module.convolution.weight, padding=1)
    expected = (convolved - convolved.mean((0, 2, 3), keepdim=True)) / (
        convolved.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)
    assert parameters(module) == 9 * 4 * 4 + 2 * 4


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (Stem(3, 16), 27 * 16 + 32),
        (ConvBatchNorm(4, 6, 5), 25 * 4 * 6 + 12),
        (DepthwiseSeparable(4, 6, 3), 9 * 4 + 8 + 4 * 6 + 12),
        (ReductionBlock(4, 8), 9 * 4 * 8 + 16 + 9 * 8 * 8 + 16 + 4 * 8),
        (BasicBlock(4, 4), 2 * (9 * 4 * 4 + 8)),
        (BasicBlock(4, 6), 9 * 4 * 6 + 12 + 9 * 6 * 6 + 12 + 4 * 6 + 12),
        (BottleneckBlock(8, 8, reduction=4), 8 * 2 + 4 + 9 * 2 * 2 + 4 + 2 * 8 + 16),
        (InvertedResidual(4, 4, expansion=2), 4 * 8 + 16 + 9 * 8 + 16 + 8 * 4 + 8),
        (SqueezeExcite(8), 8 * 2 + 2 + 2 * 8 + 8),
        (SeparableBlock(4, 4), 9 * 4 + 8 + 4 * 4 + 8),
        (ClassifierHead(64, 10), 128 + 650),
        (PoolingHead(64, 10), 650),
        (LinearHead(7, 3), 24),
        (DenseLayer(5, 8), 48),
        (DenseLayer(5, 8, normalization="layer", skip=True), 48 + 16 + 40),
        (DenseLayer(8, 8, normalization="batch", skip=True), 72 + 16),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_parameters_are_those_of_the_closed_form(module: nn.Module, expected: int) -> None:
    assert parameters(module) == expected


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("size", [1, 7, 8])
@pytest.mark.parametrize(("out_channels", "stride"), [(4, 1), (6, 1), (4, 2), (6, 2)])
def test_residual_blocks_fit_every_size_and_stride(
    block: type[nn.Module], size: int, out_channels: int, stride: int
) -> None:
    module = block(4, out_channels, kernel_size=5, stride=stride).eval()
    smaller = -(-size // stride)
    assert module(images(4, size)).shape == (3, out_channels, smaller, smaller)


@pytest.mark.parametrize("size", [1, 7, 8])
def test_the_reduction_block_halves_images_of_odd_size_too(size: int) -> None:
    assert ReductionBlock(4, 8).eval()(images(4, size)).shape == (3, 8, -(-size // 2), -(-size // 2))


def test_the_reduction_block_adds_a_projection_of_the_pooled_input() -> None:
    module, x = ReductionBlock(4, 8).eval(), images(4, 8)
    pooled = x.reshape(3, 4, 4, 2, 4, 2).mean((3, 5))
    shortcut = torch.einsum("bchw,oc->bohw", pooled, module.projection.weight[:, :, 0, 0])
    torch.testing.assert_close(module(x), shortcut + module.second(module.first(x)))


@pytest.mark.parametrize("block", BLOCKS)
def test_a_residual_block_that_keeps_the_shape_adds_the_input_itself(block: type[nn.Module]) -> None:
    module = block(4, 4).eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.zeros_(layer.weight)  # now all but the shortcut is zero
    x = images().abs()
    assert torch.equal(module(x), x)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_dense_layer_has_its_width_with_every_activation_and_normalisation(
    activation: str, normalization: str
) -> None:
    layer = DenseLayer(5, 8, activation, normalization, dropout=0.5, skip=True)
    assert layer(torch.randn(4, 5)).shape == (4, 8)


def test_a_skipping_dense_layer_of_equal_width_adds_its_input() -> None:
    layer = DenseLayer(5, 5, "tanh", skip=True)
    x = torch.randn(4, 5)
    torch.testing.assert_close(layer(x), x + layer.linear(x).tanh())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "relo"}, "activation must be one of relu, .*got 'relo'"),
        ({"normalization": "bach"}, "normalization must be one of none, batch, layer, got 'bach'"),
    ],
)
def test_an_unknown_name_in_a_dense_layer_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DenseLayer(5, 8, **settings)


@pytest.mark.parametrize(
    "module",
    [
        Identity(),
        Zero(),
        AveragePool(),
        MaximumPool(),
        ReluConvBatchNorm(4),
        ReductionBlock(4, 8),
        *(block(4, 4) for block in BLOCKS),
        ClassifierHead(4, 2),
        PoolingHead(4, 2, dropout=0.5),
    ],
    ids=lambda module: type(module).__name__,
)
def test_no_operation_writes_into_its_input(module: nn.Module) -> None:
    x = images()
    before = x.clone()
    module(x)
    assert torch.equal(x, before)
