"""Improvements and probabilities of normal losses, against integrals and arithmetic with sixty digits."""

import mpmath
import numpy as np
import pytest

from nas.acquisitions.acquisition import log_probability_below
from nas.acquisitions.normal import log_expected_improvement
from tests.nas.acquisitions.tabled import places, tabled


def test_expected_improvement_is_the_integral():
    mean, sd, best = 0.4, 0.7, 0.1
    f = np.linspace(best - 12, best, 200_001)
    density = np.exp(-0.5 * ((f - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
    integral = np.trapezoid((best - f) * density, f)
    found = log_expected_improvement(np.array([mean]), np.array([sd]), best)
    assert np.exp(found[0]) == pytest.approx(integral, rel=1e-6)


def test_the_probability_of_a_tail_does_not_underflow():
    found = log_probability_below(tabled([50.0], [1.0]), places(0), 0.0, 1.0)
    with mpmath.workdps(60):
        assert found[0] == pytest.approx(float(mpmath.log(mpmath.ncdf(-50))), rel=1e-12)
