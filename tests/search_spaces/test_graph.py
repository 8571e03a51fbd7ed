import subprocess
import sys

import numpy as np
import pytest

from search_spaces.catalogue.nas_bench_201 import from_string, nas_bench_201
from search_spaces.graph import Graph, GraphNode, graph
from search_spaces.moves import sample
from search_spaces.nodes import Boolean, Cell, Choice, Integer, Op, Repeat, Shared, SpaceError
from search_spaces.space import SearchSpace

A, B = Op("m:A"), Op("m:B")


def drawn(root: object, **values: object) -> list[str]:
    found = graph(SearchSpace(root), values)  # type: ignore[arg-type]
    return [f"{node.name}={node.kind}{list(node.inputs)}" for node in found.nodes] + [f"-> {found.output}"]


def test_a_list_is_a_chain_in_which_none_is_nothing() -> None:
    assert drawn([A, None, [B, Repeat(A, 2)]]) == [
        "=input[]",
        "0=op[0]",
        "2/0=op[1]",
        "2/1/0=op[2]",
        "2/1/1=op[3]",
        "-> 4",
    ]


def test_an_empty_chain_is_its_input() -> None:
    assert drawn([Repeat(A, Integer(0, 2))], **{"0/count": 0}) == ["=input[]", "-> 0"]


def test_a_mapping_is_a_chain_of_named_parts() -> None:
    root = {"network": {"stem": A, "body": Choice({"deep": {"one": A, "two": B}, "flat": A})}}
    assert drawn(root, **{"network/body": "deep"}) == [
        "=input[]",
        "stem=op[0]",
        "body/one=op[1]",
        "body/two=op[2]",
        "-> 3",
    ]


def test_a_lone_operation_is_named_by_its_label() -> None:
    assert drawn(A) == ["=input[]", "A=op[0]", "-> 1"]


def test_a_cell_sums_what_its_edges_bring() -> None:
    assert drawn(Cell({"0->1": A, "0->2": [], "1->2": B})) == [
        "=input[]",
        "0->1=op[0]",
        "1=sum[1]",
        "1->2=op[2]",
        "2=sum[0, 3]",
        "-> 4",
    ]


def test_a_cell_concatenates_in_the_order_of_its_edges() -> None:
    found = graph(SearchSpace([Cell({"0->2": A, "0->1": B, "1->2": []}, "concat")]), {})
    assert [(node.kind, node.inputs) for node in found.nodes if node.call is None] == [
        ("input", ()),
        ("concat", (1,)),
        ("concat", (3, 2)),
    ]


def test_edges_of_none_and_what_only_they_reach_do_not_exist() -> None:
    assert drawn(Cell({"0->1": None, "1->2": A, "0->2": B})) == ["=input[]", "0->2=op[0]", "2=sum[1]", "-> 2"]


def test_a_cell_whose_output_nothing_reaches_gives_zero() -> None:
    found = graph(SearchSpace(Cell({"0->1": None, "1->2": A})), {})
    assert [(node.kind, node.name, node.inputs) for node in found.nodes[1:]] == [("op", "2", (0,))]
    assert found.nodes[1].call is not None
    assert "zero" in found.nodes[1].call.op.traits


def test_pieces_in_settings_stay_inside_their_node() -> None:
    found = graph(SearchSpace(Op("m:A", inner=[A, Choice([A, B])], size=3)), {"inner/1": "B"})
    assert len(found.nodes) == 2


@pytest.mark.parametrize(
    "root",
    [{"network": [A, 3]}, {"network": {"width": Integer(1, 2), "a": A}}, {"network": [A, Choice(["relu", "tanh"])]}],
)
def test_a_value_among_the_pieces_is_refused_with_its_place(root: object) -> None:
    space = SearchSpace({**root, "other": Boolean()})  # type: ignore[dict-item]
    with pytest.raises(SpaceError, match=r"(1|width): .* is no piece of a network"):
        graph(space, sample(space, np.random.default_rng(0)))


def test_a_space_without_a_network_has_no_graph() -> None:
    with pytest.raises(SpaceError, match="describes no network"):
        graph(SearchSpace({"x": Boolean()}), {"x": True})


def test_nodes_are_in_topological_order_with_names_of_their_own() -> None:
    space = nas_bench_201()
    found = graph(space, from_string("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"))
    assert found.nodes[0] == GraphNode("input", ())
    assert len({node.name for node in found.nodes}) == len(found.nodes) == 1 + 1 + 15 * 9 + 2 + 1
    assert all(read < index for index, node in enumerate(found.nodes) for read in node.inputs)
    assert "body/3/body" not in found.nodes[40].name
    assert any(node.name == "body/2/4/0->1" for node in found.nodes)
    assert found == graph(
        space, from_string("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|")
    )
    assert isinstance(found, Graph)


def test_a_copy_of_a_shared_cell_has_nodes_of_its_own() -> None:
    cell = Shared("cell", Cell({"0->1": Choice([A, B])}))
    assert drawn([Repeat(cell, 2)], **{"cell/0->1": "A"}) == [
        "=input[]",
        "0/0/0->1=op[0]",
        "0/0/1=sum[1]",
        "0/1/0->1=op[2]",
        "0/1/1=sum[3]",
        "-> 4",
    ]


def test_spaces_graphs_and_keys_load_without_torch() -> None:
    code = (
        "import sys, numpy; from search_spaces import *; s = load_space('nas_bench_201');"
        "a = sample(s, numpy.random.default_rng(0)); graph(s, a); canonical_key(s, a); encode(s, [a]);"
        "assert 'torch' not in sys.modules"
    )
    light = code.replace("import *", "import canonical_key, encode, graph, load_space, sample")
    subprocess.run([sys.executable, "-c", light], check=True)


@pytest.mark.slow
def test_the_functions_are_not_hidden_by_the_modules_of_their_name() -> None:
    code = (
        "import search_spaces.graph, search_spaces.build; from search_spaces import build, graph;"
        "assert callable(graph) and callable(build);"
        "from search_spaces.graph import Graph; from search_spaces.build import build as same; assert same is build"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
