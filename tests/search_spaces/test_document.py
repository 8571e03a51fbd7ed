import json
from math import sqrt

import pytest
from hypothesis import given, settings

from search_spaces.document import factory_path, from_document, to_document
from search_spaces.nodes import Boolean, Cell, Choice, Op, Repeat, Shared, SpaceError
from search_spaces.space import SearchSpace
from tests.search_spaces.random_spaces import SPACES


class Factory:
    class Inner:
        pass


@settings(max_examples=200, deadline=None)
@given(SPACES)
def test_a_space_survives_its_document(space: SearchSpace) -> None:
    document = json.loads(json.dumps(space.to_document(), allow_nan=False))
    again = SearchSpace.from_document(document)
    assert again == space
    assert again.to_document() == space.to_document()
    assert again.fingerprint == space.fingerprint
    assert again.decisions == space.decisions
    assert hash(again) == hash(space)


def test_operations_and_cells_survive_their_document() -> None:
    edge = Choice([Op(Factory, label="one", traits=["weightless"], size=Choice([1, 2])), Op("torch.nn:ReLU"), None])
    space = SearchSpace(
        {"network": [Repeat(Shared("cell", Cell({"0->1": edge, "1->2": edge, "0->2": [edge, edge]}, "concat")), 2)]}
    )
    again = SearchSpace.from_document(json.loads(json.dumps(space.to_document())))
    assert again == space
    assert [decision.path for decision in again.decisions] == [decision.path for decision in space.decisions]
    operation = again.root["network"][0].body.node.edges["0->1"].options["one"]
    assert operation.factory == f"{__name__}:Factory"
    assert operation.traits == {"weightless"}


def test_a_factory_is_stored_by_the_path_that_leads_to_it() -> None:
    assert factory_path(Factory.Inner) == f"{__name__}:Factory.Inner"
    assert factory_path(sqrt) == "math:sqrt"


def test_a_factory_without_a_name_cannot_be_stored() -> None:
    class Hidden:
        pass

    for factory in (lambda: None, Hidden):
        with pytest.raises(SpaceError, match="no importable name"):
            SearchSpace(Op(factory, x=Boolean())).to_document()


@pytest.mark.parametrize(
    "document",
    [
        {"node": "unknown"},
        {"node": ["choice"]},
        {},
        {"node": "choice"},
        {"node": "choice", "options": 3},
        {"node": "float", "low": 0.0},
        {"node": "float", "low": "a", "high": "b", "log": False},
        {"node": "cell", "edges": [["0-1", None]], "combine": "sum"},
        {"node": "repeat", "body": None, "count": -1},
    ],
)
def test_a_damaged_document_is_refused_in_words(document: object) -> None:
    with pytest.raises(SpaceError):
        from_document(document)
    with pytest.raises(SpaceError):
        SearchSpace.from_document({"name": "x"})


def test_only_nodes_have_a_document() -> None:
    with pytest.raises(SpaceError, match="is no node"):
        to_document(object())
