import numpy as np
import pytest
import torch

from search_spaces.build import build
from search_spaces.catalogue.mlp import ACTIVATIONS, NORMALIZATIONS, mlp
from search_spaces.moves import sample
from search_spaces.nodes import SpaceError
from search_spaces.operations import dense
from search_spaces.space import SearchSpace


@pytest.mark.parametrize(("input_shape", "outputs"), [((13,), 1), ((4,), 3), ((1, 8, 8), 10)])
def test_networks_fit_tables_and_flattened_images(input_shape: tuple[int, ...], outputs: int) -> None:
    space = mlp()
    for seed in range(5):
        network = build(space, sample(space, np.random.default_rng(seed)), input_shape, outputs)
        assert network(torch.randn(4, *input_shape)).shape == (4, outputs)


def test_each_layer_has_its_own_decisions() -> None:
    space = mlp(layers=2)
    layer = {"activation": "gelu", "normalization": "layer", "dropout": 0.25, "skip": False, "width": 16}
    other = {"activation": "tanh", "normalization": "none", "dropout": 0.0, "skip": True, "width": 64}
    network = build(
        space,
        {
            "network/layers/count": 2,
            **{f"network/layers/0/{name}": value for name, value in layer.items()},
            **{f"network/layers/1/{name}": value for name, value in other.items()},
            "training/optimizer": "sgd",
            "training/optimizer/sgd/momentum": 0.9,
            "training/learning_rate": 0.01,
            "training/weight_decay": 1e-4,
            "training/batch_size": 32,
            "training/schedule": "cosine",
        },
        (5,),
        2,
    ).eval()
    first, second, head = (network.operations[name] for name in ("layers_0", "layers_1", "head"))
    x = torch.randn(3, 5)
    hidden = torch.nn.functional.gelu(torch.nn.functional.layer_norm(first.linear(x), (16,)))
    assert first.dropout.p == 0.25
    hidden = second.linear(hidden).tanh() + hidden @ second.projection.weight.T
    torch.testing.assert_close(network(x), head.linear(hidden))


def test_decisions_that_are_not_wanted_are_left_out() -> None:
    space = mlp(dropout=0, skips=False, training=False)
    names = {path.rpartition("/")[2] for path in space.by_path}
    assert names == {"count", "width", "activation", "normalization"}


def test_the_space_knows_the_same_names_as_its_layers() -> None:
    assert (tuple(dense.ACTIVATIONS), tuple(dense.NORMALIZATIONS)) == (ACTIVATIONS, NORMALIZATIONS)


def test_label_smoothing_is_decided_only_if_asked_for() -> None:
    assert "training/label_smoothing" not in mlp().by_path
    assert mlp(label_smoothing=0.1).by_path["training/label_smoothing"].domain.high == 0.1


def test_the_space_survives_being_stored() -> None:
    assert SearchSpace.from_document(mlp().to_document()) == mlp()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 0}, "layers must be a whole number >= 1, got 0"),
        ({"dropout": 1.0}, "dropout must be a number from 0 up to, not including, 1, got 1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing must be a number from 0 up to, not including, 1, got 1.0"),
        ({"widths": []}, r"widths must be a list with at least one value, got \[\]"),
        ({"widths": [0]}, "widths must be whole numbers >= 1, got 0"),
        ({"activations": "relu"}, "activations must be a list"),
        ({"activations": ["relo"]}, "unknown activation 'relo'"),
        ({"normalizations": ["bach"]}, "unknown normalization 'bach'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        mlp(**settings)
