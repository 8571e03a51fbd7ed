from pathlib import Path

import pytest
import torch
from torch import nn

from search_spaces.architecture import Architecture
from search_spaces.build import BuildError
from search_spaces.nodes import Choice, Float, Op
from search_spaces.space import SearchSpace
from workers.calling import GivenUp
from workers.datasets.dataset import DataError
from workers.datasets.load import load_dataset
from workers.evaluators.training import TrainingEvaluator
from workers.protocol import Assignment


class Head(nn.Linear):
    def __init__(self, in_features, outputs):
        super().__init__(in_features, outputs)


class Broken(nn.Module):
    def __init__(self, in_features):
        super().__init__()
        self.scale = nn.Parameter(nn.init.constant_(nn.Parameter(nn.Linear(1, 1).weight.detach()), float("nan"))[0])

    def forward(self, x):
        return x * self.scale


class Unordered(nn.Module):
    """Adds up where an order is not kept: torch has no algorithm for it that repeats."""

    def __init__(self):
        super().__init__()

    def forward(self, x):
        return x.clone().put_(torch.zeros(1, dtype=torch.long), x.detach().flatten()[:1])


SPACE = SearchSpace(
    {
        "network": [
            Op(nn.Flatten),
            Choice(
                {
                    "plain": [],
                    "hidden": [Op(nn.Linear, out_features=Choice([16, 32])), Op(nn.ReLU), Op(nn.Dropout, p=0.2)],
                    "broken": [Op(Broken)],
                    "unordered": [Op(Unordered)],
                }
            ),
            Op(Head),
        ],
        "training": {"learning_rate": Float(1e-4, 1e-1, log=True)},
    }
)
PLAIN = {"network/1": "plain", "training/learning_rate": 0.02}
HIDDEN = {"network/1": "hidden", "network/1/hidden/0/out_features": 32, "training/learning_rate": 0.02}


class Report:
    def __init__(self, stop_at=None):
        self.steps, self.notes, self.stop_at = [], {}, stop_at

    def __call__(self, step, **metrics):
        self.steps.append((step, metrics))
        return step == self.stop_at

    wants_checkpoint = False

    def checkpoint(self, step, state):
        raise AssertionError("nobody asked for one")

    def note(self, **attributes):
        self.notes.update(attributes)


def assign(values, *metrics, data="digits", seed=0, budget=None, **settings):
    return Assignment(
        study="s",
        trial=0,
        attempt=1,
        architecture=SPACE.validate(values),
        space=SPACE,
        task={"data": data, "settings": settings} if data else {},
        metrics=metrics,
        seed=seed,
        budget=budget,
        scratch=Path(),
    )


def test_classification_returns_exactly_the_metrics_asked_for():
    metrics = ("error", "accuracy", "loss", "parameters", "macs", "activation_bytes", "latency_ms", "training_seconds")
    report = Report()
    found = TrainingEvaluator(epochs=6).evaluate(assign(HIDDEN, *metrics), report)
    assert tuple(found) == metrics
    assert found["accuracy"] > 0.9
    assert found["error"] == 1 - found["accuracy"]
    assert found["parameters"] == 64 * 32 + 32 + 32 * 10 + 10
    assert found["macs"] == 64 * 32 + 32 * 10
    assert found["latency_ms"] > 0
    assert report.notes["latency_batch_size"] == 1
    assert "threads" in report.notes["latency_device"]
    assert [step for step, _ in report.steps] == [1, 2, 3, 4, 5, 6]
    assert report.steps[-1][1] == {name: found[name] for name in ("error", "accuracy", "loss")}


def test_regression_is_scored_in_the_units_of_the_target():
    found = TrainingEvaluator(epochs=40, batch_size=32).evaluate(
        assign(PLAIN, "rmse", "r2", "loss", data="diabetes"), Report()
    )
    assert 45 < found["rmse"] < 70  # the target's own deviation is 77, a linear model leaves about 55
    assert 0.2 < found["r2"] < 0.7
    assert found["loss"] == pytest.approx(found["rmse"] ** 2)


def test_equal_assignments_give_equal_numbers_and_other_seeds_others():
    evaluator = TrainingEvaluator(epochs=2)
    first, again, other = (
        evaluator.evaluate(assign(HIDDEN, "error", "loss", seed=seed), Report()) for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_only_algorithms_that_repeat_are_used_if_asked_for():
    unordered = {"network/1": "unordered", "training/learning_rate": 0.02}
    TrainingEvaluator(epochs=1).evaluate(assign(unordered, "error"), Report())
    with pytest.raises(BuildError, match="does not have a deterministic implementation"):
        TrainingEvaluator(epochs=1, deterministic=True).evaluate(assign(unordered, "error"), Report())
    assert not torch.are_deterministic_algorithms_enabled()
    usual, repeated = (
        TrainingEvaluator(epochs=1, deterministic=wanted).evaluate(assign(HIDDEN, "loss"), Report())
        for wanted in (False, True)
    )
    assert usual == repeated


def test_the_budget_is_the_number_of_epochs():
    report = Report()
    TrainingEvaluator(epochs=9).evaluate(assign(PLAIN, "error", budget=3.0), report)
    assert [step for step, _ in report.steps] == [1, 2, 3]
    for budget in (0.0, 2.5):
        with pytest.raises(ValueError, match="whole number of epochs"):
            TrainingEvaluator().evaluate(assign(PLAIN, "error", budget=budget), Report())


def test_the_architecture_decides_training_settings():
    evaluator = TrainingEvaluator(learning_rate=1.0)
    assert evaluator.settings_for(assign(PLAIN, "error")).learning_rate == 0.02
    space = SearchSpace({"network": SPACE.root["network"], "training": {"learn_rate": Float(0.1, 1)}})
    with pytest.raises(ValueError, match="no training setting 'learn_rate'; did you mean 'learning_rate'"):
        evaluator.settings_for(
            Assignment(
                study="s",
                trial=0,
                attempt=1,
                architecture=Architecture({"network/1": "plain", "training/learn_rate": 0.5}),
                space=space,
                task={},
                metrics=("error",),
                scratch=Path(),
            )
        )


def test_a_stop_ends_the_training_and_returns_the_metrics_so_far():
    report = Report(stop_at=2)
    found = TrainingEvaluator(epochs=9).evaluate(assign(PLAIN, "error"), report)
    assert len(report.steps) == 2
    assert found == {"error": report.steps[-1][1]["error"]}


def test_a_known_result_is_completed_without_training():
    report = Report()
    known = {"error": 0.25, "macs": 1.0}
    found = TrainingEvaluator().complete(assign(HIDDEN, "error", "macs", "parameters"), known, report)
    assert found == {"error": 0.25, "macs": 64 * 32 + 32 * 10, "parameters": 64 * 32 + 32 + 32 * 10 + 10}
    assert report.steps == []
    with pytest.raises(ValueError, match="lacks the metric 'error'; it has macs"):
        TrainingEvaluator().complete(assign(HIDDEN, "error"), {"macs": 1.0}, report)


def test_a_metric_the_task_lacks_is_refused_before_training():
    with pytest.raises(ValueError, match="no metric 'rmse' for classification"):
        TrainingEvaluator().evaluate(assign(PLAIN, "rmse"), Report())


def test_a_task_without_data_says_what_is_needed():
    with pytest.raises(DataError, match="a training task is"):
        TrainingEvaluator().evaluate(assign(PLAIN, "error", data=None), Report())


def test_the_settings_of_the_task_reach_the_loader():
    with pytest.raises(DataError, match="unknown setting 'targets'"):
        TrainingEvaluator().evaluate(assign(PLAIN, "error", targets="x"), Report())


def test_a_loss_that_is_nan_is_an_arithmetic_error():
    with pytest.raises(FloatingPointError, match="loss is nan"):
        TrainingEvaluator(epochs=2).evaluate(
            assign({"network/1": "broken", "training/learning_rate": 0.02}, "error"), Report()
        )


@pytest.mark.parametrize("setting", [{"latency_repeats": 0}, {"latency_batch_size": True}, {"optimizer": "adam"}])
def test_bad_settings_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        TrainingEvaluator(**setting)


class Keeping(Report):
    """Keeps how far the checkpoints are; leaves at one if it is wanted."""

    def __init__(self, wanted=False):
        super().__init__()
        self.kept, self.wants_checkpoint = [], wanted

    def checkpoint(self, step, state):
        self.kept.append((step, state["steps"]))
        if self.wants_checkpoint:
            raise GivenUp


def test_checkpoints_are_kept_at_their_interval():
    batch = len(load_dataset("digits").train) // 3
    for seconds, expected in ((0, [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]), (3600, [])):
        report = Keeping()
        evaluator = TrainingEvaluator(batch_size=batch, checkpoint_seconds=seconds)
        evaluator.evaluate(assign(PLAIN, "error", budget=2), report)
        assert report.kept == expected


def test_a_checkpoint_that_is_wanted_is_kept_at_the_next_step():
    report = Keeping(wanted=True)
    with pytest.raises(GivenUp):
        TrainingEvaluator().evaluate(assign(PLAIN, "error"), report)
    assert report.kept == [(0, 1)]


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan"), "2m", True])
def test_the_interval_of_checkpoints_is_a_number(seconds):
    with pytest.raises(ValueError, match="checkpoint_seconds"):
        TrainingEvaluator(checkpoint_seconds=seconds)


def test_what_cannot_fit_in_memory_is_not_begun():
    report = Report()
    with pytest.raises(MemoryError, match=r"training would take about .*: not begun"):
        TrainingEvaluator(memory_bytes=100_000, batch_size=512).evaluate(assign(HIDDEN, "error"), report)
    assert report.steps == []
    TrainingEvaluator(epochs=1, memory_bytes=10**9).evaluate(assign(HIDDEN, "error"), report)
    assert 10_000 < report.notes["predicted_memory_bytes"] < 10**9


def test_a_setting_for_images_is_refused_for_a_table_before_the_search():
    with pytest.raises(ValueError, match=r"crop is for images .* got crop=2 for inputs of shape \(13,\)"):
        TrainingEvaluator(crop=2).check(assign(PLAIN, "error", data="wine"))
    TrainingEvaluator(crop=2).check(assign(PLAIN, "error"))


def test_the_learning_rate_of_a_network_is_noted():
    report = Report()
    TrainingEvaluator(epochs=1, base_depth=2).evaluate(assign(HIDDEN, "error"), report)
    assert report.notes["learning_rate"] == pytest.approx(0.02)  # two layers, and the space decides the rate


def test_what_belongs_to_the_architecture_is_measured_without_training():
    report = Report()
    found = TrainingEvaluator(epochs=10**9).evaluate(assign(HIDDEN, "macs", "parameters"), report)
    assert found == {"macs": 64 * 32 + 32 * 10, "parameters": 64 * 32 + 32 + 32 * 10 + 10}
    assert report.steps == []
