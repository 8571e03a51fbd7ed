"""Stopper: the seam at which running trials that lead nowhere are ended."""

from typing import Protocol

from nas.history import History
from nas.proposed import Proposed


class Stopper(Protocol):
    """Decides from measurements whether a running trial should end early. Any frozen dataclass with this method serves.

    It is asked when the trial has reported something new, with `history.reported` holding all that was reported so far;
    it keeps nothing itself. The worker learns of it with its next report or beat, and the trial ends as stopped, with
    the metrics it has by then.
    """

    def should_stop(self, trial: Proposed, history: History) -> str | None:
        """The reason in words, or None to go on."""
        ...
