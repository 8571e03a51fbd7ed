import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from search_spaces.build import BuildError, build
from search_spaces.catalogue.mlp import mlp
from search_spaces.catalogue.mobile_cnn import mobile_cnn
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.catalogue.residual_cnn import residual_cnn
from search_spaces.graph import graph
from search_spaces.loading import ImportRefused
from search_spaces.moves import mutate, sample
from search_spaces.network import GraphNetwork, evaluating, module_names
from search_spaces.nodes import Boolean, Cell, Choice, Op, SpaceError
from search_spaces.space import SearchSpace

SPACES = [
    (nas_bench_201(channels=4, cells=1, stages=2), (1, 8, 8)),
    (residual_cnn(stages=2, widths=(4, 8)), (3, 9, 9)),
    (mobile_cnn(stages=2, widths=(4, 8), blocks=2), (3, 9, 9)),
    (mlp(widths=(4, 8)), (5,)),
]


class Told(nn.Module):
    """Writes down what the builder fills in."""

    def __init__(
        self, input_shape: tuple[int, ...], in_channels: int, in_features: int, outputs: int, more: int = 7
    ) -> None:
        super().__init__()
        self.told = (input_shape, in_channels, in_features, outputs, more)

    def forward(self, x: Tensor) -> Tensor:
        return x


class Wrapper(nn.Module):
    def __init__(self, inner: nn.Module | None, plain: dict[str, object] | None = None) -> None:
        super().__init__()
        self.inner = inner
        self.plain = plain

    def forward(self, x: Tensor) -> Tensor:
        return x if self.inner is None else 2 * self.inner(x)


class Pad(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (0, self.width))


def network_of(*pieces: object, input_shape: tuple[int, ...] = (4,), outputs: int = 3) -> GraphNetwork:
    return build(SearchSpace(list(pieces)), {}, input_shape, outputs)


@pytest.mark.slow
@pytest.mark.parametrize(("space", "input_shape"), SPACES, ids=lambda value: getattr(value, "name", ""))
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_whatever_is_sampled_or_mutated_can_be_built(
    space: SearchSpace, input_shape: tuple[int, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    architecture = mutate(space, sample(space, rng), rng)
    network = build(space, architecture, input_shape, 3)
    assert network(torch.randn(4, *input_shape)).shape == (4, 3)


@pytest.mark.parametrize(("space", "input_shape"), SPACES, ids=lambda value: getattr(value, "name", ""))
def test_every_value_is_freed_after_its_last_reader(space: SearchSpace, input_shape: tuple[int, ...]) -> None:
    architecture = sample(space, np.random.default_rng(0))
    network, nodes = build(space, architecture, input_shape, 3), graph(space, architecture)
    freed = [value for step in network.plan for value in step.expired]
    assert sorted(freed) == [index for index in range(len(nodes.nodes)) if index != nodes.output]
    for at, step in enumerate(network.plan):
        for later in network.plan[at + 1 :]:
            assert not set(step.expired) & set(later.inputs)


def test_a_factory_is_told_the_shapes_it_asks_for_and_the_outputs() -> None:
    network = network_of(Op(Pad, width=2), Op(Told), input_shape=(3, 5, 4))
    told = network.operations["1"]
    assert isinstance(told, Told)
    assert told.told == ((3, 5, 6), 3, 6, 3, 7)


def test_settings_of_the_space_are_not_overwritten() -> None:
    told = network_of(Op(Told, in_features=99, more=1)).operations["0"]
    assert isinstance(told, Told)
    assert told.told == ((4,), 4, 99, 3, 1)


def test_factories_are_found_by_their_path() -> None:
    network = network_of(Op("torch.nn:Linear", out_features=6), Op("search_spaces.operations.heads:LinearHead"))
    assert network(torch.zeros(2, 4)).shape == (2, 3)


def test_a_path_outside_the_allowed_packages_is_refused() -> None:
    with pytest.raises(ImportRefused, match="json"):
        network_of(Op("json.decoder:JSONDecoder"))


def test_pieces_in_settings_are_handed_over_as_modules() -> None:
    chain = [Op(nn.Linear, out_features=6), Op(nn.Linear, out_features=4)]
    cell = Cell({"0->1": Op(nn.Identity), "0->2": Op(nn.Identity), "1->2": Op(nn.Identity)})
    network = network_of(
        Op(Wrapper, inner=Op(nn.Linear, out_features=4)), Op(Wrapper, inner=chain), Op(Wrapper, inner=cell)
    )
    x = torch.randn(2, 4)
    first, second, third = (network.operations[name] for name in "012")
    assert isinstance(first.inner, nn.Linear)
    torch.testing.assert_close(network(x), third(second(first(x))))
    torch.testing.assert_close(third(x), 4 * x)
    assert second.inner.operations["0"].out_features == 6


def test_modules_in_mappings_and_absent_pieces_are_settings_too() -> None:
    plain = {"depth": [1, 2], "head": Op(nn.Linear, out_features=2)}
    wrapper = network_of(Op(Wrapper, inner=None, plain=plain)).operations["0"]
    assert isinstance(wrapper.plain["head"], nn.Linear)
    assert wrapper.plain["depth"] == [1, 2]


def test_a_cell_sums_in_its_nodes() -> None:
    cell = Cell({"0->1": Op(nn.Linear, out_features=4), "0->2": Op(nn.Identity), "1->2": Op(nn.Tanh)})
    network = network_of(cell)
    x = torch.randn(2, 4)
    torch.testing.assert_close(network(x), x + network.operations["0_0_to_1"](x).tanh())


def test_a_cell_that_concatenates_joins_the_channels_in_the_order_of_its_edges() -> None:
    cell = Cell({"0->1": Op(nn.Conv2d, out_channels=2, kernel_size=1), "0->2": Op(nn.Identity), "1->2": None}, "concat")
    network = network_of(cell, Op(Told), input_shape=(3, 2, 2))
    assert network.operations["1"].told[1] == 3
    cell = Cell({"0->1": Op(nn.Identity), "0->2": Op(nn.Tanh), "1->2": Op(nn.Identity)}, "concat")
    x = torch.randn(2, 3, 2, 2)
    assert torch.equal(network_of(cell, input_shape=(3, 2, 2))(x), torch.cat([x.tanh(), x], 1))


def test_an_empty_network_gives_its_input() -> None:
    space = SearchSpace({"network": [Choice({"none": None, "linear": Op(nn.Linear, out_features=2)})]})
    x = torch.randn(2, 4)
    assert torch.equal(build(space, {"network/0": "none"}, (4,), 2)(x), x)


def test_a_sum_of_unequal_shapes_names_both_places_and_shapes() -> None:
    cell = Cell({"0->1": Op(nn.Linear, out_features=5), "0->2": Op(nn.Identity), "1->2": Op(nn.Identity)})
    space = SearchSpace({"network": {"cell": cell}, "wide": Boolean()}, "mine")
    with pytest.raises(BuildError) as caught:
        build(space, {"wide": True}, (4,), 2)
    message = str(caught.value)
    assert "cell/2: a sum needs equal shapes, but cell/0->2 gives (4,) and cell/1->2 gives (5,)" in message
    assert "space 'mine'" in message
    assert '{"wide":true}' in message


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        (
            Op(nn.Conv2d, kernel_size=0, out_channels="many"),
            r"0: Conv2d\(kernel_size=0, out_channels='many'\) failed on shape \(4,\): TypeError",
        ),
        (
            Op("torch.nn:BatchNorm2d", num_features=4),
            r"0: torch.nn:BatchNorm2d failed on an input of shape \(4,\): ValueErr",
        ),
        (Op(dict), "0: dict must give a torch.nn.Module, got dict"),
        (Op(nn.LSTM, input_size=4, hidden_size=2), "0: LSTM must give one tensor .* got tuple"),
        (Op(nn.Flatten, start_dim=0), r"0: Flatten must give one tensor with the batch .* got shape \(8,\)"),
        (Op(nn.ReLU, inplace=True), "0: ReLU writes into its input"),
        (Op(Wrapper, inner=Op(nn.Linear, out_features=-1)), r"0/inner: Linear\(out_features=-1\) failed"),
        (Op(Wrapper, inner=[Op(nn.Bilinear)]), r"0/inner/0: Bilinear\(\) failed"),
    ],
)
def test_a_failing_piece_is_named_with_its_place_and_its_own_error(piece: Op, message: str) -> None:
    with pytest.raises(BuildError, match=message) as caught:
        network_of(piece)
    assert "architecture {}" in str(caught.value)


def test_a_build_error_keeps_the_original_and_shortens_long_architectures() -> None:
    space = SearchSpace([Op(nn.Bilinear), *(Op(Told, more=Choice(["x" * 50, "y"])) for _ in range(20))])
    with pytest.raises(BuildError, match=r"… \(\d+ characters\)") as caught:
        build(space, {f"{index}/more": "x" * 50 for index in range(1, 21)}, (4,), 2)
    assert isinstance(caught.value.__cause__, TypeError)


def test_an_architecture_that_does_not_fit_the_space_is_refused() -> None:
    with pytest.raises(SpaceError, match="cell/0->1: a value is missing"):
        build(nas_bench_201(), {}, (1, 8, 8), 2)


def test_learning_the_shapes_leaves_modules_in_training_mode_and_statistics_untouched() -> None:
    network = network_of(Op(nn.BatchNorm1d, num_features=4), Op(nn.Dropout, p=0.5))
    assert all(module.training for module in network.modules())
    assert network.operations["0"].num_batches_tracked == 0


def test_equal_seeds_give_equal_weights() -> None:
    space, input_shape = SPACES[0]
    architecture = sample(space, np.random.default_rng(0))

    def weights() -> dict[str, Tensor]:
        with torch.random.fork_rng([]):
            torch.manual_seed(3)
            return build(space, architecture, input_shape, 3).state_dict()

    first, second = weights(), weights()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize(("space", "input_shape"), SPACES, ids=lambda value: getattr(value, "name", ""))
def test_networks_can_be_traced_and_captured_whole_and_take_channels_last(
    space: SearchSpace, input_shape: tuple[int, ...]
) -> None:
    network = build(space, sample(space, np.random.default_rng(1)), input_shape, 3).eval()
    x = torch.randn(4, *input_shape)
    expected = network(x)
    assert torch.equal(fx.symbolic_trace(network)(x), expected)
    assert torch.equal(torch.export.export(network, (x,)).module()(x), expected)
    if len(input_shape) == 3:
        last = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)


def test_module_names_are_distinct_identifiers() -> None:
    names = module_names(iter(["a/b", "a_b", "cell/0->1", "keys", "0"]))
    assert names == ["a_b", "a_b_", "cell_0_to_1", "keys_", "0"]


def test_evaluating_gives_every_module_its_own_mode_back() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    network[0].eval()
    with evaluating(network):
        assert not any(module.training for module in network.modules())
        assert not torch.is_grad_enabled()
    assert network.training
    assert network[1].training
    assert not network[0].training
