"""GroupedNetwork: multilayer perceptrons of different widths and depths, computed together.

At each depth there is one grouped product (`search_spaces.operations.batched_mlp`): of the next dense layer of those
that have one, and of the head of those that have none left. Between the products lies one tensor of ``features x b`` in
which each member has rows of its own; members are so ordered that what is computed alike lies together. Every member's
module shares the memory of the numbers here: it is always trained, and can be measured and kept, as it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.network import GraphNetwork
from search_spaces.operations.basic import Flatten
from search_spaces.operations.batched_mlp import Grouping, Part, grouped_linear
from search_spaces.operations.dense import DenseLayer
from search_spaces.operations.heads import LinearHead


@dataclass(frozen=True)
class Perceptron:
    """The dense layers and the head of a network that consists of nothing else."""

    layers: tuple[DenseLayer, ...]
    head: LinearHead

    @property
    def has_dropout(self) -> bool:
        """Whether its training draws random numbers."""
        return any(layer.dropout is not None for layer in self.layers)

    def linear(self, depth: int) -> nn.Linear:
        """The linear map at a depth: of a layer, or of the head after the last one."""
        return self.layers[depth].linear if depth < len(self.layers) else self.head.linear


def perceptron(network: nn.Module) -> Perceptron | None:
    """The layers of a network as `search_spaces.catalogue.mlp` describes them; None for any other network."""
    if not isinstance(network, GraphNetwork):
        return None
    pieces: list[nn.Module] = []
    for index, step in enumerate(network.plan):
        if step.kind != "op" or step.inputs != (index,) or step.value != index + 1:
            return None
        pieces.append(network.operations[step.operation])
    layers = pieces[1:-1]
    if (
        len(pieces) < 2
        or type(pieces[0]) is not Flatten
        or type(pieces[-1]) is not LinearHead
        or any(type(layer) is not DenseLayer for layer in layers)
        or network.output != len(pieces)
        or not all(parameter.requires_grad for parameter in network.parameters())
    ):
        return None
    return Perceptron(tuple(layer for layer in layers if isinstance(layer, DenseLayer)), pieces[-1])


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a parameter lies among all numbers, and whose it is."""

    start: int
    member: int
    parameter: nn.Parameter

    @property
    def stop(self) -> int:
        """The end of it."""
        return self.start + self.parameter.numel()


class Packing:
    """Lays parameters one behind the other in one tensor, and makes the modules' own views of it."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.bounds: list[tuple[int, int]] = []
        self._size = 0

    def add(self, member: int, parameter: nn.Parameter) -> int:
        """The next parameter; returns where it begins within the block that is being laid."""
        place = Place(start=self._size, member=member, parameter=parameter)
        self.places.append(place)
        self._size = place.stop
        return place.start - (self.bounds[-1][1] if self.bounds else 0)

    def close(self) -> int:
        """End a block, of which one tensor is a leaf of the graph; returns its number."""
        self.bounds.append((self.bounds[-1][1] if self.bounds else 0, self._size))
        return len(self.bounds) - 1

    def values(self) -> Tensor:
        """All numbers in one tensor; from now on the parameters are views of it."""
        packed = torch.cat([place.parameter.detach().reshape(-1) for place in self.places])
        for place in self.places:
            place.parameter.data = packed[place.start : place.stop].view(place.parameter.shape)
        return packed


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Rows that are normalised and activated alike."""

    rows: int
    activation: nn.Module
    #: "none", "batch" or "layer"; the latter of members of equal width
    normalization: str = "none"
    #: of members
    count: int = 1
    epsilon: float = 0.0
    momentum: float = 0.0
    #: blocks of the scales and shifts, unless it is "none"
    scale: int = -1
    shift: int = -1
    #: of "batch": the running mean and variance of all rows, which the modules have views of
    running: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class Skips:
    """The members whose input is added to their output: the last ones of a depth, first those that add it as it is."""

    rows: int
    #: their rows of the input, in the order in which they are added; the sizes of all rows of the input are `sizes`
    kept: tuple[int, ...]
    sizes: list[int]
    #: of those that project it, after them
    projection: Grouping | None
    weights: int


@dataclass(frozen=True, kw_only=True)
class Depth:
    """What is computed at one depth."""

    product: Grouping
    weights: int
    biases: int
    #: rows of heads; they come first
    head_rows: int
    segments: tuple[Segment, ...]
    #: (member, first row after those of the heads, rows, probability)
    dropout: tuple[tuple[int, int, int, float], ...]
    skips: Skips | None


class GroupedNetwork:
    """The forward pass of all members.

    Args:
        members: shallow ones first; all of the same input features and outputs, on the same device.

    Attributes:
        values: all trained numbers, a row; the members' parameters are views of it.
        leaves: the same memory in blocks, as leaves of the graph, one behind the other.
        places: where each parameter lies.
    """

    def __init__(self, members: Sequence[Perceptron]) -> None:
        depths = [len(member.layers) for member in members]
        if not members or depths != sorted(depths):
            raise ValueError(f"members must come shallow ones first, at least one; got depths {depths}")
        self._members = members
        self._features = members[0].linear(0).in_features
        self._outputs = members[0].head.linear.out_features
        packing = Packing()
        rows = {member: (member * self._features, self._features) for member in range(len(members))}
        self._depths: list[Depth] = []
        for depth in range(depths[-1] + 1):
            laid, rows = self._laid(depth, rows, packing)
            self._depths.append(laid)
        self.places: Sequence[Place] = packing.places
        self.values = packing.values()
        self.leaves = [self.values[start:stop].detach().requires_grad_() for start, stop in packing.bounds]

    def __call__(self, inputs: Tensor, generators: Sequence[torch.Generator | None] | None) -> Tensor:
        """The members' outputs.

        Args:
            inputs: ``members x b x features``.
            generators: of the members' dropout in training mode, None for one that has none; None for evaluation mode.

        Returns:
            ``members x outputs x b``.
        """
        members, batch, features = inputs.shape
        x = inputs.transpose(1, 2).reshape(members * features, batch)
        heads = []
        for depth in self._depths:
            y = grouped_linear(x, self.leaves[depth.weights], self.leaves[depth.biases], depth.product)
            if depth.head_rows:
                head, y = torch.split(y, [depth.head_rows, len(y) - depth.head_rows])
                heads.append(head)
            if depth.segments:
                x = self._after_product(depth, x, y, generators)
        return torch.cat(heads).view(members, self._outputs, batch)

    def _after_product(
        self, depth: Depth, x: Tensor, y: Tensor, generators: Sequence[torch.Generator | None] | None
    ) -> Tensor:
        parts = torch.split(y, [segment.rows for segment in depth.segments])
        y = torch.cat(
            [
                segment.activation(self._normalised(segment, part, training=generators is not None))
                for segment, part in zip(depth.segments, parts, strict=True)
            ]
        )
        if depth.dropout and generators is not None:
            y = y * _kept(depth, y, generators)
        if depth.skips is None:
            return y
        pieces = torch.split(x, depth.skips.sizes)
        added = [pieces[index] for index in depth.skips.kept]
        if depth.skips.projection is not None:
            added.append(grouped_linear(x, self.leaves[depth.skips.weights], None, depth.skips.projection))
        before, y = torch.split(y, [len(y) - depth.skips.rows, depth.skips.rows])
        return torch.cat([before, y + torch.cat(added)])

    def _normalised(self, segment: Segment, y: Tensor, *, training: bool) -> Tensor:
        if segment.normalization == "none":
            return y
        scale, shift = self.leaves[segment.scale], self.leaves[segment.shift]
        if segment.running is not None:
            mean, variance = segment.running
            return functional.batch_norm(
                y[None], mean, variance, scale, shift, training, segment.momentum, segment.epsilon
            )[0]
        width = len(y) // segment.count
        across = y.view(segment.count, width, -1).transpose(1, 2)
        normal = functional.layer_norm(across, (width,), None, None, segment.epsilon).transpose(1, 2)
        return normal.reshape(y.shape) * scale[:, None] + shift[:, None]

    def _laid(
        self, depth: int, given: Mapping[int, tuple[int, int]], packing: Packing
    ) -> tuple[Depth, dict[int, tuple[int, int]]]:
        """Order and lay the members at a depth; `given`: the first row of each one's input, and how many there are.

        Returns also the same of their outputs.
        """
        ends = [member for member in sorted(given) if len(self._members[member].layers) == depth]
        layers = {member: self._members[member].layers[depth] for member in given if member not in ends}
        goes_on = sorted(layers, key=lambda member: (*_kind(layers[member]), layers[member].linear.in_features, member))
        parts, written, rows = [], {}, 0
        for member in [*ends, *goes_on]:
            linear = self._members[member].linear(depth)
            parts.append(self._part(linear, member, given[member][0], rows, packing))
            written[member] = (rows, linear.out_features)
            rows += linear.out_features
        weights = packing.close()
        for member in written:
            packing.add(member, _parameter(self._members[member].linear(depth), "bias"))
        biases = packing.close()
        head_rows = len(ends) * self._outputs
        after = {member: (written[member][0] - head_rows, written[member][1]) for member in goes_on}
        found = Depth(
            product=Grouping(tuple(parts)),
            weights=weights,
            biases=biases,
            head_rows=head_rows,
            segments=tuple(
                self._segment([(member, layers[member]) for member in alike], packing)
                for _, alike in groupby(goes_on, key=lambda member: _kind(layers[member])[:-1])
            ),
            dropout=tuple(
                (member, *after[member], dropout.p)
                for member in goes_on
                if (dropout := layers[member].dropout) is not None
            ),
            skips=self._skips([member for member in goes_on if layers[member].skip], layers, given, packing),
        )
        return found, after

    def _part(self, linear: nn.Linear, member: int, reads: int, writes: int, packing: Packing) -> Part:
        return Part(
            reads=reads,
            inputs=linear.in_features,
            writes=writes,
            outputs=linear.out_features,
            weight=packing.add(member, _parameter(linear, "weight")),
        )

    def _segment(self, alike: Sequence[tuple[int, DenseLayer]], packing: Packing) -> Segment:
        first = alike[0][1]
        rows = sum(layer.linear.out_features for _, layer in alike)
        norms = [(member, layer.normalization) for member, layer in alike]
        if first.normalization is None:
            return Segment(rows=rows, activation=first.activation)
        for member, norm in norms:
            packing.add(member, _parameter(norm, "weight"))
        scale = packing.close()
        for member, norm in norms:
            packing.add(member, _parameter(norm, "bias"))
        shift = packing.close()
        found = Segment(rows=rows, activation=first.activation, count=len(alike), scale=scale, shift=shift)
        if isinstance(first.normalization, nn.LayerNorm):
            return replace(found, normalization="layer", epsilon=first.normalization.eps)
        batch_norms = [norm for _, norm in norms if isinstance(norm, nn.BatchNorm1d)]
        return replace(
            found,
            normalization="batch",
            epsilon=batch_norms[0].eps,
            momentum=batch_norms[0].momentum or 0.0,
            running=(_shared(batch_norms, "running_mean"), _shared(batch_norms, "running_var")),
        )

    def _skips(
        self,
        members: Sequence[int],
        layers: Mapping[int, DenseLayer],
        given: Mapping[int, tuple[int, int]],
        packing: Packing,
    ) -> Skips | None:
        if not members:
            return None
        order = sorted(given, key=lambda member: given[member][0])
        kept = [order.index(member) for member in members if layers[member].projection is None]
        parts, rows = [], 0
        for member in members:
            projection = layers[member].projection
            if projection is not None:
                parts.append(self._part(projection, member, given[member][0], rows, packing))
                rows += projection.out_features
        return Skips(
            rows=sum(layers[member].linear.out_features for member in members),
            kept=tuple(kept),
            sizes=[given[member][1] for member in order],
            projection=Grouping(tuple(parts)) if parts else None,
            weights=packing.close() if parts else -1,
        )

    @property
    def widest(self) -> int:
        """The most features of all members together that a product reads or gives."""
        products = [depth.product for depth in self._depths]
        return max(max(product.rows, sum(part.inputs for part in product.parts)) for product in products)

    def batch_norms(self) -> Iterator[nn.BatchNorm1d]:
        """Those of all members."""
        for member in self._members:
            for layer in member.layers:
                if isinstance(layer.normalization, nn.BatchNorm1d):
                    yield layer.normalization


def _kind(layer: DenseLayer) -> tuple[int, str, str, int]:
    """What is computed after the product: equal but for the last number, it is computed for all rows together."""
    skip = 0 if not layer.skip else 1 if layer.projection is None else 2
    norm = layer.normalization
    if isinstance(norm, nn.BatchNorm1d):
        normal = f"batch {norm.eps} {norm.momentum}"
    else:
        normal = "" if norm is None else f"layer {layer.linear.out_features:09} {norm.eps}"
    return skip, repr(layer.activation), normal, layer.linear.out_features


def _parameter(module: nn.Module | None, name: str) -> nn.Parameter:
    found = getattr(module, name)
    if not isinstance(found, nn.Parameter):
        raise TypeError(f"{module}: its {name} is no parameter")
    return found


def _shared(norms: Sequence[nn.BatchNorm1d], name: str) -> Tensor:
    """The buffers of that name in one row; the modules' own become views of it."""
    packed = torch.cat([getattr(norm, name) for norm in norms])
    for norm, view in zip(norms, torch.split(packed, [norm.num_features for norm in norms]), strict=True):
        setattr(norm, name, view)
    return packed


def _kept(depth: Depth, y: Tensor, generators: Sequence[torch.Generator | None]) -> Tensor:
    """What each number is multiplied by: each member draws as `torch.nn.functional.dropout` does for it alone."""
    mask = torch.ones_like(y)
    for member, start, width, probability in depth.dropout:
        own = y.new_empty(y.shape[1], width).bernoulli_(1 - probability, generator=generators[member])
        mask[start : start + width] = own.div_(1 - probability).T
    return mask
