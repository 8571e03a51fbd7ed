"""What is recommended: by beliefs, and among confirmed finalists by what was measured of them."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nas.history import History
from nas.metric import Metric
from nas.recommended import finalists, recommended
from nas.repeats import averages
from nas.trial import Trial, TrialState
from search_spaces import Architecture, Integer, SearchSpace

SPACE = SearchSpace({"n": Integer(0, 9)}, name="digits")


@dataclass(frozen=True)
class Believing:
    """Believes this loss of each architecture, by "n"."""

    means: tuple[float, ...]

    def believed(self, history: History) -> Any:
        positions = history.finished.completed
        means = [self.means[int(history.finished.architecture(position)["n"])] for position in positions.tolist()]
        return SimpleNamespace(positions=positions, means=np.array(means)[:, None], sds=np.full((len(means), 1), 0.1))


def measured(*values: tuple[int, int, float], metric: Metric | None = None) -> History:
    """The history of trials (n, repeat, value)."""
    trials = []
    for number, (n, repeat, value) in enumerate(values):
        architecture = Architecture({"n": n})
        trials.append(
            Trial(
                id=number,
                number=number,
                state=TrialState.COMPLETED,
                attempt=1,
                architecture=architecture,
                canonical_key=architecture.key,
                repeat=repeat,
                metrics={"value": value},
            )
        )
    return History.of(SPACE, [metric or Metric("value")], trials)


THRICE = measured(
    *[(n, 0, value) for n, value in enumerate((1.0, 2.0, 0.0, 5.0))],
    *[(n, repeat, value) for repeat in (1, 2) for n, value in enumerate((2.0, 1.0, 0.5))],
)
#: means: 5/3, 4/3, 1/3 of three measurements, 5 of one
BELIEFS = Believing((0.2, 0.3, 0.9, 0.1))


def test_the_best_mean_among_finalists_that_were_confirmed() -> None:
    believed = recommended(BELIEFS, THRICE)
    assert believed is not None
    assert (believed.number, believed.measured, believed.measurements) == (3, 5.0, 1)
    confirmed = recommended(BELIEFS, THRICE, confirm=3)  # 3, 0 and 1 are finalists, of which 3 was not confirmed
    assert confirmed is not None
    assert (confirmed.number, confirmed.measurements) == (1, 3)
    assert confirmed.measured == pytest.approx(4 / 3)
    assert (confirmed.mean, confirmed.sd) == (0.3, 0.1)
    everyone = recommended(BELIEFS, THRICE, confirm=4)
    assert everyone is not None
    assert everyone.number == 2


def test_before_anything_was_confirmed_beliefs_decide() -> None:
    once = measured(*[(n, 0, value) for n, value in enumerate((1.0, 2.0, 0.0, 5.0))])
    found = recommended(BELIEFS, once, confirm=2)
    assert found is not None
    assert found.number == 3


def test_values_have_their_own_sign_and_limits_hold_for_the_mean() -> None:
    metric = Metric("value", "maximize", limit=1.0)
    history = measured((0, 0, 0.9), (1, 0, 1.2), (1, 1, 0.6), (0, 1, 1.3), metric=metric)  # means 1.1 and 0.9
    found = recommended(Believing((-0.5, -2.0)), history)
    assert found is not None
    assert (found.number, found.mean, found.measured) == (0, 0.5, pytest.approx(1.1))


def test_averages_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    values = [
        (int(n), place, float(value))
        for place, (n, value) in enumerate(zip(rng.integers(5, size=30), rng.random(30), strict=True))
    ]
    history = measured(*values)
    found = averages(history)
    of_n: dict[int, list[float]] = {}
    for n, _, value in values:
        of_n.setdefault(n, []).append(value)
    assert found.counts.tolist() == [len(each) for each in of_n.values()]
    np.testing.assert_allclose(found.losses[:, 0], [np.mean(each) for each in of_n.values()])
    assert [history.finished.architecture(position)["n"] for position in found.positions.tolist()] == list(of_n)
    empty = averages(History(SPACE, [Metric("value")]))
    assert (len(empty.positions), empty.losses.shape) == (0, (0, 1))
    assert finalists(History(SPACE, [Metric("value")]), None, 3) == []
