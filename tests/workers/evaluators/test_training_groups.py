"""`evaluate_many` of the training evaluator: each trial's result is the one it has alone."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from search_spaces import sample
from search_spaces.catalogue.mlp import mlp
from workers.calling import GivenUp
from workers.evaluators.training import TrainingEvaluator
from workers.protocol import Assignment
from workers.training.memory import MemoryNeed

SPACE = mlp(layers=2, widths=(4, 8), normalizations=("none", "layer"))
EVALUATOR = TrainingEvaluator(epochs=1, group=8)


class Report:
    wants_checkpoint = False

    def __init__(self, error=None):
        self.steps, self.notes, self.error = [], {}, error

    def __call__(self, step, **metrics):
        self.steps.append((step, metrics))
        if self.error is not None:
            raise self.error
        return False

    def checkpoint(self, step, state):
        raise AssertionError("nobody asked for one")

    def note(self, **attributes):
        self.notes.update(attributes)


def assigned(count, *metrics, space=SPACE):
    rng = np.random.default_rng(0)
    return [
        Assignment(
            study="s",
            trial=number,
            attempt=1,
            architecture=sample(space, rng),
            space=space,
            task={"data": "wine", "settings": {}},
            metrics=metrics or ("error", "parameters"),
            seed=number,
            scratch=Path(),
        )
        for number in range(count)
    ]


def evaluated(assignments, reports=None):
    reports = reports or [Report() for _ in assignments]
    return reports, dict(EVALUATOR.evaluate_many(assignments, reports))


def test_each_gets_the_result_it_has_alone_and_those_that_fit_are_trained_together():
    assignments = assigned(10)
    reports, results = evaluated(assignments)
    assert sorted(results) == list(range(10))
    sizes = [report.notes.get("trained_together", 1) for report in reports]
    kinds = [(one.architecture["training/optimizer"], one.architecture["training/batch_size"]) for one in assignments]
    assert sizes == [kinds.count(kind) for kind in kinds]
    assert max(sizes) > 1
    for place, assignment in enumerate(assignments):
        report = Report()
        assert results[place] == pytest.approx(EVALUATOR.evaluate(assignment, report), rel=1e-3)
        ((step, metrics),) = reports[place].steps
        assert (step, metrics) == (report.steps[0][0], pytest.approx(report.steps[0][1], rel=1e-3))


def test_a_company_that_does_not_fit_into_memory_is_trained_in_parts(monkeypatch):
    whole, expected = evaluated(assigned(10))
    together = max(report.notes.get("trained_together", 1) for report in whole)
    assert together > 2
    monkeypatch.setattr("workers.evaluators.training.memory_limit", lambda *arguments: 2**20)
    need = MemoryNeed(**dict.fromkeys([field.name for field in fields(MemoryNeed)], 0))
    monkeypatch.setattr("workers.evaluators.training.predicted_memory", lambda *_: replace(need, saved=2**19))
    reports, results = evaluated(assigned(10))
    assert max(report.notes.get("trained_together", 1) for report in reports) == 2
    assert {place: pytest.approx(result, rel=1e-3) for place, result in expected.items()} == results


def test_what_is_wrong_with_one_is_said_of_that_one():
    assignments = assigned(4)
    space = mlp(layers=1, widths=(4,), label_smoothing=0.1, normalizations=("none",))
    odd = assigned(1, "no_such_metric", space=space)[0]
    reports = [Report(), Report(error=GivenUp()), *[Report() for _ in range(3)]]
    _, results = evaluated([*assignments, odd], reports)
    assert isinstance(results[1], GivenUp)
    assert isinstance(results[4], ValueError)
    assert "no_such_metric" in str(results[4])
    assert all(set(results[place]) == {"error", "parameters"} for place in (0, 2, 3))


@pytest.mark.parametrize("metrics", [("parameters",), ("error", "training_seconds")])
def test_where_nothing_is_trained_or_its_time_is_a_metric_each_is_alone(metrics):
    reports, results = evaluated(assigned(3, *metrics))
    assert all("trained_together" not in report.notes for report in reports)
    assert all(set(result) == set(metrics) for result in results.values())


@pytest.mark.parametrize("size", [0, -1, True, 1.5, 5000])
def test_a_group_is_a_whole_number(size):
    with pytest.raises(ValueError, match="group must be a whole number from 1 to 4096"):
        TrainingEvaluator(group=size)
