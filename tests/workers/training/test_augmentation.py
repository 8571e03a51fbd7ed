import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from workers.training.augmentation import blended, drawn, moved, with_holes
from workers.training.settings import TrainingSettings


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count, height, width):
    return torch.rand(count, 2, height, width, generator=generator()) + 1


@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 5), st.booleans(), st.integers(0, 9))
@hypothesis_settings(deadline=None, max_examples=30)
def test_an_image_is_moved_as_a_crop_out_of_a_border_of_zeros(height, width, crop, flip, seed):
    crop = min(crop, height, width)
    batch = images(3, height, width)
    settings = TrainingSettings(crop=crop, flip=flip)
    (draws, _) = drawn(settings, examples=3, steps=1, input_shape=(2, height, width), generator=generator(seed))
    if not crop and not flip:
        assert draws == {}
        return
    found = moved(batch, draws["moves"], crop)
    for image, (top, left, mirrored), result in zip(batch, draws["moves"].tolist(), found, strict=True):
        border = torch.zeros(2, height + 2 * crop, width + 2 * crop)
        border[:, crop : crop + height, crop : crop + width] = image
        expected = border[:, top : top + height, left : left + width]
        assert torch.equal(result, expected.flip(2) if mirrored else expected)
        assert flip or not mirrored


@pytest.mark.parametrize("side", [1, 2, 5, 8])
def test_a_hole_is_a_square_cut_off_at_the_edge(side):
    batch = images(6, 8, 9)
    centres = torch.tensor([[0, 0], [7, 8], [4, 4], [0, 8], [3, 0], [5, 7]])
    found = with_holes(batch, centres, side)
    for image, (y, x), result in zip(batch, centres.tolist(), found, strict=True):
        expected, half = image.clone(), side // 2
        expected[:, max(0, y - half) : max(0, y - half + side), max(0, x - half) : max(0, x - half + side)] = 0
        assert torch.equal(result, expected)


def test_blending_is_with_the_example_before():
    values = torch.tensor([[1.0], [2.0], [4.0]])
    assert blended(values, torch.tensor([0.75])).flatten().tolist() == [0.75 + 1, 1.5 + 0.25, 3 + 0.5]


def test_every_place_and_side_is_drawn_equally_often_and_shares_come_from_their_distribution():
    settings = TrainingSettings(crop=2, flip=True, cutout=3, mixup=0.4)
    of_examples, of_steps = drawn(settings, examples=20_000, steps=4000, input_shape=(1, 6, 7), generator=generator(3))
    for column, size in ((0, 5), (1, 5), (2, 2)):
        counts = torch.bincount(of_examples["moves"][:, column], minlength=size)
        assert len(counts) == size
        assert torch.allclose(counts / 20_000, torch.full((size,), 1 / size), atol=0.02)
    assert [int(column.max()) for column in of_examples["holes"].T] == [5, 6]
    shares = of_steps["shares"].double()
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.02)
    # the variance of Beta(a, a) is 1 / (4 (2 a + 1))
    assert float(shares.var()) == pytest.approx(1 / (4 * 1.8), rel=0.05)


def test_equal_generators_draw_the_same_and_others_another():
    def moves(seed):
        settings = TrainingSettings(crop=2, mixup=1.0)
        found = drawn(settings, examples=9, steps=4, input_shape=(1, 8, 8), generator=generator(seed))
        return torch.cat([found[0]["moves"].flatten().double(), found[1]["shares"].double()])

    assert torch.equal(moves(1), moves(1))
    assert not torch.equal(moves(1), moves(2))


@pytest.mark.parametrize("setting", [{"crop": 4}, {"flip": True}, {"cutout": 4}])
def test_images_are_asked_for(setting):
    (name,) = setting
    with pytest.raises(ValueError, match=rf"{name} is for images .* inputs of shape \(30,\); leave it out"):
        TrainingSettings(**setting).check_task("classification", (30,))
    TrainingSettings(**setting).check_task("classification", (1, 8, 8))


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="crop must be at most the smaller side of the images, 8 pixels, got 9"):
        TrainingSettings(crop=9).check_task("classification", (1, 8, 12))
