import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.datasets.splits import held_out

classes = st.lists(st.integers(0, 4), min_size=2, max_size=200).map(np.asarray)


@given(classes, st.floats(0, 0.9), st.integers(0, 2**32 - 1))
def test_every_class_is_held_out_within_one_example_of_its_share_and_keeps_one(labels, share, seed):
    mask = held_out(labels, len(labels), share, seed)
    for label in np.unique(labels):
        members = labels == label
        assert abs(mask[members].sum() - share * members.sum()) <= 1
        assert (~mask)[members].any()


@given(st.integers(1, 300), st.floats(0, 0.99), st.integers(0, 2**32 - 1))
def test_a_plain_choice_has_the_asked_size(total, share, seed):
    assert held_out(None, total, share, seed).sum() == min(round(share * total), total - 1)


@given(classes, st.integers(0, 2**32 - 1))
def test_the_same_seed_gives_the_same_choice(labels, seed):
    assert (held_out(labels, len(labels), 0.3, seed) == held_out(labels, len(labels), 0.3, seed)).all()


def test_another_seed_gives_another_choice():
    labels = np.arange(100) % 2
    assert (held_out(labels, 100, 0.5, 0) != held_out(labels, 100, 0.5, 1)).any()


def test_the_total_is_right_when_shares_are_fractions():
    labels = np.repeat(np.arange(10), 7)  # each class's share of 0.2 is 1.4 examples
    assert held_out(labels, 70, 0.2, 0).sum() == 14
