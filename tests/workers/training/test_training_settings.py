import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from search_spaces.architecture import Architecture
from search_spaces.catalogue.mlp import mlp
from search_spaces.catalogue.mobile_cnn import mobile_cnn
from search_spaces.catalogue.nas_bench_201 import nas_bench_201
from search_spaces.catalogue.residual_cnn import residual_cnn
from search_spaces.nodes import Choice, Float, Integer, Op, Shared
from search_spaces.space import SearchSpace
from workers.training.decisions import check_decisions, training_decisions
from workers.training.schedules import learning_rate_at
from workers.training.settings import TrainingSettings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer", "adam"),
        ("schedule", "linear"),
        ("precision", "float16"),
        ("epochs", 0),
        ("epochs", True),
        ("batch_size", 1.5),
        ("threads", -1),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("momentum", 1),
        ("weight_decay", -1),
        ("warmup", 1.0),
        ("label_smoothing", 1.0),
        ("gradient_clip", "1"),
        ("crop", -1),
        ("cutout", 1.5),
        ("flip", 1),
        ("capture", "yes"),
        ("mixup", -0.1),
        ("prune", 1.0),
        ("base_depth", True),
        ("memory_bytes", 0),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"{field} must be .*got"):
        TrainingSettings(**{field: value})


def test_an_unknown_decision_names_the_nearest_setting():
    with pytest.raises(ValueError, match="no training setting 'learning_rat'; did you mean 'learning_rate'"):
        TrainingSettings().with_decisions({"learning_rat": 0.1})


def decisions(root, values):
    return training_decisions(SearchSpace(root), Architecture(values))


NETWORK = [Op("torch.nn:Flatten"), Op("torch.nn:Linear", out_features=Integer(1, 9))]


def test_what_stands_below_training_is_a_setting():
    root = {"network": NETWORK, "training": {"learning_rate": Float(1e-4, 1e-1, log=True), "batch_size": 16}}
    values = {"network/1/out_features": 3, "training/learning_rate": 0.01}
    assert decisions(root, values) == {"learning_rate": 0.01, "batch_size": 16}


def test_a_choice_between_groups_is_a_setting_and_its_content_too():
    optimizer = Choice({"sgd": {"momentum": Float(0, 0.99)}, "adamw": {}})
    root = {"network": NETWORK, "training": {"optimizer": optimizer}}
    values = {"network/1/out_features": 3, "training/optimizer": "sgd", "training/optimizer/sgd/momentum": 0.5}
    assert decisions(root, values) == {"optimizer": "sgd", "momentum": 0.5}
    del values["training/optimizer/sgd/momentum"]
    assert decisions(root, values | {"training/optimizer": "adamw"}) == {"optimizer": "adamw"}


def test_groups_shared_nodes_and_settings_beside_the_network_count():
    root = {
        "network": NETWORK,
        "training": {"regularisation": {"weight_decay": Float(0, 1), "warmup": Shared("warm", Float(0, 0.5))}},
        "epochs": Integer(1, 5),
    }
    values = {"network/1/out_features": 3, "training/regularisation/weight_decay": 0.1, "warm": 0.2, "epochs": 4}
    assert decisions(root, values) == {"weight_decay": 0.1, "warmup": 0.2, "epochs": 4}


def test_a_shared_choice_between_groups_counts_like_any_other():
    recipe = Shared("recipe", Choice({"fast": {"learning_rate": 0.1}, "slow": {"learning_rate": Float(1e-4, 1e-3)}}))
    optimizer = Shared("by", Choice({"sgd": {"momentum": 0.8}, "adamw": {}}))
    root = {"network": NETWORK, "training": {"recipe": recipe, "optimizer": optimizer}}
    values = {"network/1/out_features": 3, "recipe": "fast", "by": "sgd"}
    assert decisions(root, values) == {"learning_rate": 0.1, "optimizer": "sgd", "momentum": 0.8}


def test_a_group_in_the_place_of_a_setting_is_refused():
    root = {"network": NETWORK, "training": {"optimizer": {"momentum": Float(0, 0.9)}}}
    with pytest.raises(ValueError, match="training/optimizer: optimizer is one setting, no group"):
        decisions(root, {"network/1/out_features": 3, "training/optimizer/momentum": 0.1})


def test_a_setting_decided_twice_is_refused():
    root = {"network": NETWORK, "training": {"epochs": Integer(1, 5)}, "epochs": 3}
    with pytest.raises(ValueError, match="'epochs' is decided twice"):
        decisions(root, {"network/1/out_features": 3, "training/epochs": 2})


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"learn_rate": Float(0.1, 1)}, "training/learn_rate: .*did you mean 'learning_rate'"),
        ({"optimizer": Choice(["sgd", "adam"])}, "training/optimizer: optimizer must be one of adamw, sgd, got 'adam'"),
        ({"optimizer": Choice({"sgd": {"momentun": 0.5}})}, "training/optimizer/sgd/momentun: .*'momentum'"),
        ({"optimizer": Shared("o", Choice({"rmsprop": {}}))}, "optimizer must be one of"),
        ({"optimizer": {"momentum": 0.5}}, "optimizer is one setting, no group"),
        (
            {"more": {"batch_size": Integer(0, 5)}},
            "training/more/batch_size: batch_size must be a whole number >= 1, got 0",
        ),
        ({"momentum": Float(0, 1.5)}, "training/momentum: momentum must be a number"),
    ],
)
def test_a_space_that_decides_what_cannot_be_is_refused_as_a_whole(training, message):
    with pytest.raises(ValueError, match=message):
        check_decisions(SearchSpace({"network": NETWORK, "training": training}))


def test_a_space_that_decides_settings_only_passes():
    optimizer = Choice({"sgd": {"momentum": Float(0, 0.99)}, "adamw": {}})
    recipe = Choice({"fast": {"learning_rate": 0.1}, "slow": {"learning_rate": Float(1e-4, 1e-3)}})
    check_decisions(SearchSpace({"network": NETWORK, "training": {"optimizer": optimizer, "recipe": recipe}}))
    check_decisions(SearchSpace({"network": NETWORK, "epochs": Integer(1, 5)}))
    check_decisions(SearchSpace(NETWORK))


@pytest.mark.parametrize("make", [residual_cnn, mobile_cnn, mlp, nas_bench_201])
def test_the_ready_spaces_decide_settings_only(make):
    check_decisions(make())


def test_a_space_that_is_only_a_network_decides_no_setting():
    assert decisions(NETWORK, {"1/out_features": 3}) == {}


@given(st.integers(2, 200), st.sampled_from([0.0, 0.1, 0.5]))
@hypothesis_settings(deadline=None, max_examples=30)
def test_one_cycle_is_the_one_of_pytorch(steps, warmup):
    settings = TrainingSettings(schedule="one_cycle", learning_rate=0.1, warmup=warmup)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    share = warmup or 0.3
    if share * steps <= 1:  # PyTorch divides by zero there
        return
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps, pct_start=share)
    for step in range(steps):
        assert learning_rate_at(settings, step, steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        if step < steps - 1:
            theirs.step()


def test_cosine_is_the_one_of_pytorch():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    for step in range(50):
        ours = learning_rate_at(TrainingSettings(schedule="cosine", learning_rate=0.1), step, 50)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        theirs.step()


@given(st.sampled_from(["cosine", "constant"]), st.integers(1, 100), st.floats(0, 0.9))
def test_the_rate_rises_during_warm_up_and_never_after(schedule, steps, warmup):
    settings = TrainingSettings(schedule=schedule, warmup=warmup, learning_rate=0.5)
    rates = [learning_rate_at(settings, step, steps) for step in range(steps)]
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert all(0 < rate <= 0.5 for rate in rates)
