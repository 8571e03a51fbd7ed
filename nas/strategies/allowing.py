"""Allowing: what strategies share that are put together from parts which may be code of one's own."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, fields
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Allowing:
    """Parts are imported when they are needed, from packages that whoever runs the strategy allows."""

    #: packages beside ours that the parts may be imported from; no setting, since a study's row could give itself any
    _allow: tuple[str, ...] = field(default=(), init=False, repr=False, compare=False)

    def allowing(self, allow: tuple[str, ...]) -> Self:
        """The same strategy, whose parts may be imported from these packages beside ours."""
        made = copy(self)
        for kept in set(vars(made)) - {own.name for own in fields(self)}:
            del made.__dict__[kept]  # made with what was allowed before
        object.__setattr__(made, "_allow", allow)
        return made
