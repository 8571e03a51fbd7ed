"""A study in a real database, and short ways to fill it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nas.store import NewTrial, Store, StudyRow, open_store
from nas.trial import Proposal
from search_spaces.architecture import Architecture
from workers.protocol import ClaimedTrial

SPEC: dict[str, Any] = {
    "format": 1,
    "space": {"name": "toy"},
    "metrics": [
        {"name": "error", "goal": "minimize", "limit": None},
        {"name": "macs", "goal": "minimize", "limit": None},
    ],
    "evaluator": {"path": "toy:evaluate", "settings": {}},
    "task": {},
    "limits": {"lease_seconds": 60, "beat_seconds": 10, "lost": 3, "transient": 1, "backoff_seconds": 5},
    "reuse": True,
}
GOOD = {"error": 0.25, "macs": 3e6}


def new(key: int | str = 0, **proposal: Any) -> NewTrial:
    """A proposal whose architecture and canonical key say `key`."""
    options = {name: proposal.pop(name) for name in ("proposal_key", "priority") if name in proposal}
    return NewTrial(Proposal(architecture=Architecture({"op": key}), **proposal), f"key-{key!r}", **options)


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with open_store(store_url) as store:
        yield store


@pytest.fixture
def make_study(store: Store) -> Callable[..., StudyRow]:
    def make(name: str = "demo", **changes: Any) -> StudyRow:
        limits = SPEC["limits"] | changes.pop("limits", {})
        return store.create_study(name, SPEC | {"limits": limits} | changes, seed=7)

    return make


@pytest.fixture
def study(make_study: Callable[..., StudyRow]) -> StudyRow:
    return make_study()


@pytest.fixture
def claim(store: Store) -> Callable[..., list[ClaimedTrial]]:
    calls = iter(range(10**6))

    def claim(count: int = 1, worker: str = "w") -> list[ClaimedTrial]:
        return list(store.queue.claim(worker, count, claim_key=f"claim-{next(calls)}"))

    return claim


@pytest.fixture
def running(store: Store, study: StudyRow, claim: Callable[..., list[ClaimedTrial]]) -> ClaimedTrial:
    """A trial that a worker holds."""
    store.propose(study.id, [new()])
    [trial] = claim()
    return trial
