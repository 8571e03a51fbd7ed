"""What a normal distribution falls below a bound by, against arithmetic with sixty digits."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictors.normal_tails import log_h


def exact_log_h(z: float) -> float:
    with mpmath.workdps(60):
        x = mpmath.mpf(z)
        # z Phi(z) by erfc: what cancels loses about 2 log10(-z) of the sixty digits
        return float(mpmath.log(mpmath.npdf(x) + x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2))


@pytest.mark.parametrize(
    "z", [-1e5, -10001.0, -10000.0, -9999.0, -1234.5, -40.0, -9.0, -2.0, -1.0001, -1.0, -0.9999, 0.0, 0.7, 5.0, 300.0]
)
def test_the_logarithm_of_what_falls_below_is_right_at_every_scale(z):
    assert log_h(np.array([z]))[0] == pytest.approx(exact_log_h(z), rel=1e-9, abs=1e-12)


@given(st.floats(-1e6, 1e3), st.floats(1e-6, 1.0))
def test_it_is_finite_and_rises(z, step):
    low, high = log_h(np.array([z, z + step * max(1.0, abs(z))]))
    assert np.isfinite(low)
    assert low < high
