"""What an evaluation process sends: a worker believes what is a message, and fails the trial for anything else."""

import json
import os
import random
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fuzz.hammer import hammer, refused_or_done
from tests.fuzz.nasty import mutated, plain, spoiled
from workers.child_handle import ChildSettings
from workers.outcome import Failed, Finished, Interrupted
from workers.protocol import ClaimedTrial, StudySpec
from workers.running import RunningTrial
from workers.wire import Lines, checked_event, encoded

GOOD: list[dict[str, Any]] = [
    {"event": "started", "run": 1},
    {"event": "report", "run": 1, "step": 3, "metrics": {"error": 0.5, "other": 1}},
    {"event": "note", "run": 1, "attributes": {"device": "cpu"}},
    {"event": "can_checkpoint", "run": 1},
    {"event": "checkpoint", "run": 1, "key": "a/0/1-1-1.safetensors", "step": 1, "digest": "00", "size_bytes": 10},
    {"event": "finished", "run": 1, "metrics": {"error": 0.5}, "stopped": None},
    {"event": "failed", "run": 1, "kind": "exception", "text": "no luck", "transient": False},
    {"event": "interrupted", "run": 1},
]


@pytest.mark.parametrize("message", GOOD, ids=lambda message: message["event"])
def test_a_good_message_is_believed_as_it_is(message: dict[str, Any]) -> None:
    assert checked_event(message) == message


def test_any_bytes_are_messages_or_a_value_error() -> None:
    def case(rng: random.Random) -> None:
        message = mutated(rng, rng.choice(GOOD), lambda rng: plain(rng, 2))
        try:
            line = encoded(message)
        except (ValueError, RecursionError):
            return
        if rng.random() < 0.3:
            line = spoiled(rng, line)
        reading, writing = os.pipe()
        try:
            os.write(writing, line[:60_000] + b"\n")
            lines = Lines(reading)
            events = []
            with refused_or_done():
                events = [checked_event(found) for found in lines.read()]
        finally:
            os.close(reading)
            os.close(writing)
        for event in events:
            assert event["event"] in {good["event"] for good in GOOD}
            heed(event)

    hammer("message", 0.08, case)


def heed(event: dict[str, Any]) -> None:
    """A worker does with it what it does with any."""
    from workers.watch import Watch

    spec = StudySpec(
        study_id=1, uuid="0" * 32, name="s", space={}, metrics=("error",), evaluator={}, task={}, lease_seconds=60.0
    )
    claimed = ClaimedTrial(
        trial_id=1, study_id=1, study="s", number=0, attempt=1, architecture="{}", budget=None, repeat=0, seed=1
    )
    running = RunningTrial(claimed, spec, renewed=0.0, checkpoints=None)
    child: Any = SimpleNamespace(process=None)
    outcome = Watch(child, running, ChildSettings(), log=None).heed(event)  # type: ignore[arg-type]  # stand-ins
    assert outcome is None or isinstance(outcome, Finished | Failed | Interrupted)
    for measurement in running.unsent():
        assert isinstance(measurement.value, float)
    json.dumps(running.attributes)
