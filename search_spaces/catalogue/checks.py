"""Checks of the settings that the ready spaces take, each with one message that says what came and what is allowed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from search_spaces.nodes import SpaceError


def check_count(name: str, value: object) -> None:
    """`value` must be a whole number of at least one."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpaceError(f"{name} must be a whole number >= 1, got {value!r}")


def check_fraction(name: str, value: object) -> None:
    """`value` must be a number from 0 up to, not including, 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < 1.0:
        raise SpaceError(f"{name} must be a number from 0 up to, not including, 1, got {value!r}")


def check_sizes(name: str, values: object, *, odd: bool = False) -> None:
    """`values` must be a list of whole numbers of at least one."""
    kind = "odd whole numbers" if odd else "whole numbers"
    for value in _check_list(name, values):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (odd and value % 2 == 0):
            raise SpaceError(f"{name} must be {kind} >= 1, got {value!r}")


def check_names(name: str, what: str, values: object, known: Collection[str]) -> None:
    """`values` must be a list of names in `known`."""
    for value in _check_list(name, values):
        if value not in known:
            raise SpaceError(f"unknown {what} {value!r}; known are {', '.join(known)}")


def _check_list(name: str, values: object) -> Sequence[object]:
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise SpaceError(f"{name} must be a list with at least one value, got {values!r}")
    return values
