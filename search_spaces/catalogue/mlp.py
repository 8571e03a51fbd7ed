"""mlp: multilayer perceptrons on tables, with the settings of their training."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.catalogue.checks import check_count, check_fraction, check_names, check_sizes
from search_spaces.catalogue.learning import learning_decisions
from search_spaces.nodes import Boolean, Choice, Float, Integer, Node, Op, Repeat
from search_spaces.space import SearchSpace

ACTIVATIONS = ("relu", "gelu", "silu", "tanh", "leaky_relu", "elu")
NORMALIZATIONS = ("none", "batch", "layer")


def mlp(
    layers: int = 4,
    widths: Sequence[int] = (16, 32, 64, 128, 256),
    activations: Sequence[str] = ("relu", "gelu", "silu", "tanh"),
    normalizations: Sequence[str] = NORMALIZATIONS,
    dropout: float = 0.5,
    skips: bool = True,
    training: bool = True,
    label_smoothing: float = 0.0,
) -> SearchSpace:
    """Dense layers and a linear head, for classification and regression; an input of more axes is flattened.

    The number of layers is decided, and for each its width, activation, normalisation, dropout, and whether its input
    is added to its output.

    Args:
        layers: the most layers before the head; at least one stands there.
        widths: features that a layer may have.
        activations: names in `ACTIVATIONS`.
        normalizations: names in `NORMALIZATIONS`.
        dropout: the largest probability of dropout; 0 for none.
        skips: whether layers may have skip connections.
        training: whether the settings of the training are decided too (below "training").
        label_smoothing: the largest to consider, for classification; 0 leaves it undecided.
    """
    check_count("layers", layers)
    check_sizes("widths", widths)
    check_names("activations", "activation", activations, ACTIVATIONS)
    check_names("normalizations", "normalization", normalizations, NORMALIZATIONS)
    check_fraction("dropout", dropout)
    layer = Op(
        "search_spaces.operations.dense:DenseLayer",
        label="layer",
        width=Choice(list(widths)),
        activation=Choice(list(activations)),
        normalization=Choice(list(normalizations)),
        dropout=Float(0.0, dropout) if dropout > 0 else 0.0,
        skip=Boolean() if skips else False,
    )
    network: dict[str, Node] = {
        "flatten": Op(
            "search_spaces.operations.basic:Flatten", label="flatten", traits=("weightless", "zero_preserving")
        ),
        "layers": Repeat(layer, Integer(1, layers)),
        "head": Op("search_spaces.operations.heads:LinearHead", label="head"),
    }
    root: dict[str, Node] = {"network": network}
    if training:
        root["training"] = learning_decisions(label_smoothing=label_smoothing)
    return SearchSpace(root, "mlp")
