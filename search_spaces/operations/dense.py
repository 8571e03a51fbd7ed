"""One layer of a multilayer perceptron, and the activation functions by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor, nn

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU}
)
NORMALIZATIONS: Mapping[str, Callable[[int], nn.Module] | None] = MappingProxyType(
    {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
)


class DenseLayer(nn.Module):
    """Linear map, normalisation, activation, dropout; with `skip`, added to (a linear projection of) the input.

    Args:
        in_features: features of the input.
        width: features of the output.
        activation: a name in `ACTIVATIONS`.
        normalization: a name in `NORMALIZATIONS`.
        dropout: the probability with which a feature is dropped in training.
        skip: whether the input is added; it is projected, without bias, where its width is another.
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        activation: str = "relu",
        normalization: str = "none",
        dropout: float = 0.0,
        skip: bool = False,
    ) -> None:
        super().__init__()
        for what, name, known in (
            ("activation", activation, ACTIVATIONS),
            ("normalization", normalization, NORMALIZATIONS),
        ):
            if name not in known:
                raise ValueError(f"{what} must be one of {', '.join(known)}, got {name!r}")
        normalize = NORMALIZATIONS[normalization]
        self.linear = nn.Linear(in_features, width)
        self.normalization = None if normalize is None else normalize(width)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout) if dropout > 0 else None
        self.skip = skip
        self.projection = nn.Linear(in_features, width, bias=False) if skip and in_features != width else None

    def forward(self, x: Tensor) -> Tensor:
        """``batch x in_features`` to ``batch x width``."""
        y: Tensor = self.linear(x)
        if self.normalization is not None:
            y = self.normalization(y)
        y = self.activation(y)
        if self.dropout is not None:
            y = self.dropout(y)
        if self.skip:
            y = y + (x if self.projection is None else self.projection(x))
        return y
