"""network: k networks that pass messages along the edges of graphs in both directions, computed together.

Letters: k networks, n architectures, v nodes, w units, l labels, f features beside the graph.

With h_0 the embedding of a node's label, each round gives a node, from its own state and those of its neighbours,

    h' = relu(h S + (sum of h over what it reads) R + (sum of h over what reads it) B + b),

and an architecture is the sums of all its nodes' states after each round, with its features beside them; a dense
network turns that into one number.
Source: Xu et al., "How Powerful are Graph Neural Networks?", ICLR 2019, equations 4.1 and 4.2 (sums, read after every
round); weights of their own for each direction of an edge: Schlichtkrull et al., "Modeling Relational Data with Graph
Convolutional Networks", 2018, equation 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from predictors.bayesian_network.network import Network
from predictors.message_passing.batch import Batch


@dataclass(frozen=True, kw_only=True)
class MessagePassing:
    """The shape of a network; its weights are in units of their prior, see `predictors.bayesian_network.network`.

    Args:
        labels: l.
        features: f.
        width: w.
        rounds: of messages.
        hidden: units of each hidden layer of the dense network at the end.
    """

    labels: int
    features: int
    width: int
    rounds: int
    hidden: tuple[int, ...]

    @cached_property
    def round(self) -> Network:
        """What one round does to a node's own state and those of its neighbours on both sides."""
        return Network(inputs=3 * self.width, hidden=(), outputs=self.width, weight_scale=math.sqrt(2.0))

    @cached_property
    def end(self) -> Network:
        """From an architecture's sums and features to its score."""
        inputs = (self.rounds + 1) * self.width * (self.labels > 0) + self.features
        return Network(inputs=inputs, hidden=self.hidden, activation="relu", weight_scale=math.sqrt(2.0))

    @property
    def _parts(self) -> list[int]:
        if not self.labels:
            return [self.end.weights]
        return [self.labels * self.width, *[self.round.weights] * self.rounds, self.end.weights]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Weights of `count` networks from the prior: shape (count, number of weights)."""
        return torch.randn(count, sum(self._parts), generator=generator, dtype=torch.float64)

    def scores(self, theta: Tensor, batch: Batch, features: Tensor) -> Tensor:
        """What k networks give n architectures: shape (k, n).

        Args:
            theta: shape (k, number of weights).
            batch: the n graphs.
            features: shape (n, f).
        """
        *inner, end = torch.split(theta, self._parts, dim=1)
        beside = features.expand(len(theta), *features.shape)
        if not inner:
            return self.end.outputs_of(end, beside)[:, :, 0]
        embedding, *rounds = inner
        state = _along(batch.labels, embedding.reshape(len(theta), self.labels, self.width))
        sums = [_along(batch.pool, state)]
        for weights in rounds:
            around = torch.cat([state, _along(batch.reads, state), _along(batch.read_by, state)], dim=2)
            state = torch.relu(self.round.outputs_of(weights, around))
            sums.append(_along(batch.pool, state))
        return self.end.outputs_of(end, torch.cat([*sums, beside], dim=2))[:, :, 0]


def _along(edges: Tensor, states: Tensor) -> Tensor:
    """A sparse matrix (a, b) times the states (k, b, w) of each network: shape (k, a, w)."""
    count, nodes, width = states.shape
    flat = states.transpose(0, 1).reshape(nodes, count * width)
    summed: Tensor = torch.sparse.mm(edges, flat)
    return summed.reshape(edges.shape[0], count, width).transpose(0, 1)
