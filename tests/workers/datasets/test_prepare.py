import numpy as np
import pytest

from workers.datasets.dataset import DataError, Examples
from workers.datasets.prepare import SplitSettings, prepare


def make(x=None, y=None, *, settings=None, **fields):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)) if x is None else x
    y = np.arange(len(x)) % 3 if y is None else y
    return prepare(Examples(inputs=x, targets=y, **fields), settings or SplitSettings(), name="mine")


def rows(split):
    return {tuple(row) for row in split.inputs.reshape(len(split), -1).tolist()}


def test_the_three_splits_share_no_example_and_lose_none():
    data = make()
    parts = [rows(split) for split in (data.train, data.validation, data.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 60
    assert [len(part) for part in parts] == [38, 10, 12]


def test_an_official_test_split_stays_whole_and_apart():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(20, 3)), np.arange(20) % 3
    data = make(test=(x, y))
    assert np.array_equal(data.test.inputs, x.astype(np.float32))
    assert np.array_equal(data.test.targets, y)
    assert len(data.train) + len(data.validation) == 60


def test_statistics_come_from_the_training_split_alone():
    rng = np.random.default_rng(2)
    data = make(rng.normal(3, 5, size=(200, 4)), rng.normal(7, 2, size=200))
    assert np.allclose(data.mean, data.train.inputs.mean(0, dtype=np.float64), rtol=1e-5)
    assert np.allclose(data.scale, data.train.inputs.std(0, dtype=np.float64), rtol=1e-5)
    assert np.allclose(data.target_mean, data.train.targets.mean(0), rtol=1e-5)
    normal = data.normalised(data.train.inputs)
    assert np.allclose(normal.mean(0), 0, atol=1e-5)
    assert np.allclose(normal.std(0), 1, atol=1e-5)


def test_images_are_normalised_by_channel_and_stored_as_bytes():
    x = np.random.default_rng(3).integers(0, 256, (50, 3, 4, 4), dtype=np.uint8)
    data = make(x)
    assert data.train.inputs.dtype == np.uint8
    assert data.mean.shape == data.scale.shape == (3, 1, 1)
    assert np.allclose(data.mean[:, 0, 0], data.train.inputs.mean((0, 2, 3)), rtol=1e-6)
    assert np.allclose(data.scale[:, 0, 0], data.train.inputs.std((0, 2, 3)), rtol=1e-6)


def test_a_constant_feature_becomes_zero():
    x = np.random.default_rng(4).normal(size=(40, 2))
    x[:, 1] = 0.1
    data = make(x)
    assert np.abs(data.normalised(data.validation.inputs)[:, 1]).max() < 1e-6


def test_missing_inputs_get_the_training_median():
    x = np.random.default_rng(5).normal(size=(60, 2))
    x[::7, 0] = np.nan
    data = make(x, impute=True)
    was_missing = np.isin(data.train.inputs[:, 1], x[::7, 1].astype(np.float32))
    assert was_missing.any()
    column = data.train.inputs[:, 0]
    assert np.allclose(column[was_missing], np.median(column[~was_missing]))


def test_arrays_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        make().train.inputs[0] = 0


def test_fewer_examples_keep_the_proportions():
    data = make(np.random.default_rng(6).normal(size=(600, 3)), settings=SplitSettings(examples=90))
    assert len(data.train) + len(data.validation) == 90
    assert np.bincount(data.train.targets).tolist() == [24, 24, 24]


def test_labels_of_any_kind_are_numbered_and_named():
    data = make(y=np.asarray(["b", "a", "c"])[np.arange(60) % 3])
    assert data.class_names == ("a", "b", "c")
    assert data.outputs == 3
    assert set(data.train.targets.tolist()) == {0, 1, 2}
    assert make(y=np.asarray([5, 9])[np.arange(60) % 2]).class_names == ("5", "9")


@pytest.mark.parametrize(
    ("targets", "kind"),
    [
        (np.arange(200) % 5, "classification"),
        (np.arange(200) % 2 == 0, "classification"),
        (np.arange(200), "regression"),
        (np.arange(200) / 7, "regression"),
        (np.random.default_rng(0).normal(size=(200, 2)), "regression"),
    ],
)
def test_the_kind_follows_from_the_targets(targets, kind):
    data = make(np.random.default_rng(0).normal(size=(200, 3)), targets)
    assert data.kind == kind
    assert data.outputs == (targets.shape[1] if targets.ndim == 2 else 1 if kind == "regression" else len(set(targets)))


def test_the_kind_can_be_said():
    assert make(y=np.arange(60) % 3, settings=SplitSettings(kind="regression")).kind == "regression"
    assert make(y=np.arange(60) % 3 * 1.0, settings=SplitSettings(kind="classification")).kind == "classification"


def nan_at(array, index):
    array = np.array(array, dtype=float)
    array[index] = np.nan
    return array


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"y": nan_at(np.arange(60), 7)}, "1 training targets are NaN or infinite, the first in row 7"),
        ({"y": np.zeros(60, int)}, "only one class, 0"),
        ({"y": np.zeros(60)}, "same number for all training examples"),
        ({"y": np.arange(59) % 3}, "60 inputs but 59 targets"),
        ({"y": np.arange(60) % 3 / 2, "settings": SplitSettings(kind="classification")}, "not whole numbers"),
        ({"y": np.asarray(["a", "b"] * 30), "settings": SplitSettings(kind="regression")}, "must be numbers"),
        ({"x": nan_at(np.ones((60, 3)), (3, 1))}, "1 training input values are NaN.*row 3"),
        ({"x": np.full((60, 3), 1e300)}, "beyond float32"),
        ({"x": np.asarray([["a"]] * 60)}, "must be numbers"),
        ({"x": np.ones(60)}, "examples x features"),
        ({"x": np.ones((0, 3))}, "no training examples"),
        ({"test": (np.ones((5, 4)), np.arange(5) % 3)}, "must be the same"),
        ({"test": (np.ones((5, 3)), np.arange(5))}, "class 3 occurs in the test split but not in the training split"),
        ({"x": np.ones((2, 3)), "y": np.arange(2)}, "too few examples|one class only"),
        ({"class_names": ("a", "b")}, "class numbers must lie between 0 and 1, got 0 to 2"),
        ({"kind": "classification", "settings": SplitSettings(kind="regression")}, "leave `kind` out"),
    ],
)
def test_bad_data_is_one_clear_error(fields, message):
    with pytest.raises(DataError, match=message) as caught:
        make(**fields)
    assert str(caught.value).startswith("data set 'mine': ")


@pytest.mark.parametrize(
    "settings",
    [
        {"validation_fraction": 0},
        {"validation_fraction": 1},
        {"test_fraction": -0.1},
        {"split_seed": -1},
        {"split_seed": None},
        {"examples": 1.5},
        {"kind": "ranking"},
    ],
)
def test_bad_split_settings_are_refused(settings):
    with pytest.raises(DataError, match=next(iter(settings))):
        SplitSettings(**settings)
