"""nas_bench_201: the cells of NAS-Bench-201, six decisions with five operations each, in the paper's network.

Source: Dong, Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020, section
2.1. The network is a stem (convolution 3 x 3, batch normalisation), `stages` stages of `cells` equal cells with a
residual block of stride 2 that doubles the channels between them, and a head (batch normalisation, ReLU, global average
pooling, linear). Defaults are the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search_spaces.architecture import Architecture
from search_spaces.nodes import Cell, Choice, Node, Op, Repeat, Scalar, Shared, SpaceError, edge_ends
from search_spaces.space import SearchSpace

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""In the order of the benchmark's ids."""

EDGES = ("0->1", "0->2", "1->2", "0->3", "1->3", "2->3")
"""In the benchmark's order."""

PATHS = tuple(f"cell/{edge}" for edge in EDGES)


def nas_bench_201(channels: int = 16, cells: int = 5, stages: int = 3) -> SearchSpace:
    """The space, for a network of `stages` stages of `cells` cells that starts with `channels` channels."""
    for name, value in (("channels", channels), ("cells", cells), ("stages", stages)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise SpaceError(f"nas_bench_201: {name} must be a whole number >= 1, got {value!r}")
    operations = "search_spaces.operations"
    options = [
        Op(f"{operations}.basic:Zero", label="none", traits=("zero", "weightless", "zero_preserving")),
        Op(f"{operations}.basic:Identity", label="skip_connect", traits=("identity", "weightless", "zero_preserving")),
        Op(f"{operations}.convolution:ReluConvBatchNorm", label="nor_conv_1x1", kernel_size=1),
        Op(f"{operations}.convolution:ReluConvBatchNorm", label="nor_conv_3x3", kernel_size=3),
        Op(
            f"{operations}.pooling:AveragePool",
            label="avg_pool_3x3",
            traits=("weightless", "zero_preserving"),
            kernel_size=3,
        ),
    ]
    cell = Shared("cell", Cell({edge: Choice(options) for edge in EDGES}))
    body: list[Node] = []
    for stage in range(stages):
        if stage:
            body.append(Op(f"{operations}.residual:ReductionBlock", out_channels=channels * 2**stage))
        body.append(Repeat(cell, cells))
    stem = Op(f"{operations}.convolution:Stem", out_channels=channels)
    head = Op(f"{operations}.heads:ClassifierHead")
    return SearchSpace({"network": {"stem": stem, "body": body, "head": head}}, name="nas_bench_201")


def published_key(architecture: Mapping[str, Scalar]) -> str:
    """The benchmark's own identity of a cell: 6,466 of the 15,625 differ.

    It knows nothing of node 1 and 2 being shared, nor that a sum of zeros is zero; `canonical_key` does.
    """
    expressions = ["x"]
    for node in range(1, 4):
        terms = []
        for edge, path in zip(EDGES, PATHS, strict=True):
            source, target = edge_ends(edge)
            if target != node:
                continue
            operation, before = architecture[path], expressions[source]
            if operation == "none" or before == "#":
                terms.append("#")
            else:
                terms.append(before if operation == "skip_connect" else f"({before})@{operation}")
        expressions.append("+".join(sorted(terms)))
    return expressions[3]


def to_ids(architecture: Mapping[str, Scalar]) -> tuple[int, ...]:
    """The benchmark's operation ids, in the order of `EDGES`."""
    return tuple(OPERATIONS.index(str(architecture[path])) for path in PATHS)


def from_ids(ids: Sequence[int]) -> Architecture:
    """The architecture with these operation ids, in the order of `EDGES`."""
    if len(ids) != len(PATHS) or not all(0 <= int(index) < len(OPERATIONS) for index in ids):
        raise SpaceError(f"a cell has {len(PATHS)} operation ids from 0 to {len(OPERATIONS) - 1}, got {list(ids)!r}")
    return Architecture({path: OPERATIONS[int(index)] for path, index in zip(PATHS, ids, strict=True)})


def to_string(architecture: Mapping[str, Scalar]) -> str:
    """The benchmark's text, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
    nodes = []
    for target in range(1, 4):
        inputs = "".join(f"{architecture[f'cell/{source}->{target}']}~{source}|" for source in range(target))
        nodes.append(f"|{inputs}")
    return "+".join(nodes)


def from_string(text: str) -> Architecture:
    """The architecture that a text of the benchmark describes."""
    found = {}
    for target, node in enumerate(text.split("+"), 1):
        for term in node.strip("|").split("|"):
            operation, _, source = term.partition("~")
            found[f"cell/{source}->{target}"] = operation
    cell = Architecture({path: found[path] for path in PATHS if found.get(path) in OPERATIONS})
    if len(cell) != len(PATHS) or to_string(cell) != text:
        raise SpaceError(
            f"a cell's text must read '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|' with op one of {', '.join(OPERATIONS)}, "
            f"got {text!r}"
        )
    return cell
