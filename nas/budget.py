"""Budget: how far trials of a study are trained, and the levels at which they are compared. Plain numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

from nas.quantities import is_positive

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
FORM = "name:least:most or name:least:most:factor, for example epochs:1:27 or epochs:1:27:3"
MOST_LEVELS = 100
NO_BUDGET = (
    "needs to know from where to where trials are trained: give the study a budget, such as --budget epochs:1:27, or "
    "[budget] in the study file"
)
"""What is said of whoever looks at trials at several budgets, in a study without one."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What is spent on a trial, in a unit: from `least`, the first look at it, to `most`, the full training.

    Args:
        name: of the unit ("epochs", "steps").
        least: of a trial's first level.
        most: the full budget; a trial without a budget of its own is trained so far.
        factor: from one level to the next; of so many trials one goes on.
    """

    name: str
    least: float
    most: float
    factor: float = 3.0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ValueError(f"budget.name must be a word such as epochs, got {self.name!r}")
        for name in ("least", "most", "factor"):
            if not is_positive(getattr(self, name)):
                raise ValueError(f"budget.{name} must be a number above 0, got {getattr(self, name)!r}")
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.least > self.most:
            raise ValueError(f"budget.least must be at most budget.most ({self.most:g}), got {self.least:g}")
        if self.factor < 1.1:
            raise ValueError(f"budget.factor must be at least 1.1, got {self.factor:g}")
        if math.log(self.most) - math.log(self.least) > MOST_LEVELS * math.log(self.factor):
            raise ValueError(
                f"a budget has at most {MOST_LEVELS} levels, which {self.least:g} to {self.most:g} by {self.factor:g} "
                "exceeds; take a larger factor"
            )

    @classmethod
    def of(cls, given: object) -> Self:
        """From text (`FORM`), a table of the fields, or a budget."""
        if isinstance(given, cls):
            return given
        if isinstance(given, str):
            parts = given.split(":")
            if len(parts) not in (3, 4):
                raise ValueError(f"a budget is {FORM}; got {given!r}")
            try:
                numbers = [float(part) for part in parts[1:]]
            except ValueError:
                raise ValueError(f"a budget is {FORM}; got {given!r}") from None
            return cls(name=parts[0], **dict(zip(("least", "most", "factor"), numbers, strict=False)))
        if isinstance(given, Mapping):
            from nas.settings import check_keys

            known = [field.name for field in fields(cls)]
            check_keys(given, known, "budget")
            missing = [name for name in ("name", "least", "most") if name not in given]
            if missing:
                raise ValueError(f"budget.{missing[0]} is missing; a budget has {', '.join(known)}")
            return cls(**given)
        raise ValueError(f"a budget is a table with {', '.join(f.name for f in fields(cls))}, or {FORM}; got {given!r}")

    @cached_property
    def levels(self) -> tuple[float, ...]:
        """The budgets at which trials are compared, rising from `least` by `factor`; the last one is `most`.

        Whole numbers where `least` and `most` are.
        """
        whole = self.least.is_integer() and self.most.is_integer()
        found, level = [], self.least
        while level < self.most * (1 - 1e-9):  # what misses the full budget by rounding is the full budget
            found.append(float(round(level)) if whole else level)
            level = self.least * self.factor ** len(found)
        return (*dict.fromkeys(level for level in found if level < self.most), self.most)

    def to_document(self) -> dict[str, Any]:
        """As stored in the study's row."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
