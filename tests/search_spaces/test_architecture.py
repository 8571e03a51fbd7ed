import copy
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.architecture import MAXIMUM_BYTES, Architecture
from search_spaces.nodes import SpaceError
from tests.search_spaces.random_spaces import SCALARS


@given(st.dictionaries(st.text(max_size=5), SCALARS, max_size=5))
def test_json_and_back_is_the_identity(values: dict[str, object]) -> None:
    architecture = Architecture(values)  # type: ignore[arg-type]
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    assert hash(again) == hash(architecture)
    assert again.key == architecture.key
    assert [(type(v), repr(v)) for v in again.values()] == [
        (type(architecture[path]), repr(architecture[path])) for path in again
    ]
    assert copy.copy(architecture) == pickle.loads(pickle.dumps(architecture)) == architecture


def test_order_does_not_matter_but_types_do() -> None:
    assert Architecture({"a": 1, "b": 2}) == Architecture({"b": 2, "a": 1})
    assert len({Architecture({"a": value}) for value in (1, 1.0, True, "1")}) == 4


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", '{"a": [1]}', '{"a": {}}', '{"a": NaN}', '{"a": 1e999}', '{"a": -Infinity}', "[" * 100_000, '{"a"'],
)
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(SpaceError):
        Architecture.from_json(text)


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(SpaceError, match="finite"):
        Architecture({"a": math.nan}).to_json()
    with pytest.raises(SpaceError, match="not an architecture"):
        Architecture({"a": object()}).to_json()  # type: ignore[dict-item]


def test_an_architecture_has_a_largest_size() -> None:
    with pytest.raises(SpaceError, match="too large"):
        Architecture({"a": "x" * MAXIMUM_BYTES}).to_json()
    with pytest.raises(SpaceError, match="too large"):
        Architecture.from_json(" " * (5 * MAXIMUM_BYTES))
