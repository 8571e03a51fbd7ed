"""The seam for stoppers."""

from typing import Protocol

from nas.history import History
from nas.trial import Trial


class Stopper(Protocol):
    """Decides whether a running trial should end early. Settings only: what it knows, it reads from the history."""

    def should_stop(self, trial: Trial, history: History) -> str | None:
        """The reason to stop this running trial, or None to let it go on."""
        ...
