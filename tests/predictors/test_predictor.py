"""What every predictor does the same, in one place."""

import numpy as np
import pytest

import predictors
from predictors.predictor import LARGEST, PredictorError
from search_spaces.architecture import Architecture
from search_spaces.nodes import Float
from search_spaces.space import SearchSpace

SPACE = SearchSpace({"x": Float(0.0, 1.0)}, name="line")
TRIALS = [Architecture({"x": place}) for place in (0.1, 0.5, 0.9)]


@pytest.mark.parametrize("name", predictors.__all__)
@pytest.mark.parametrize("size", [-10.0 * LARGEST, 1e308])
def test_losses_without_finite_variance_are_refused_by_every_predictor(name, size):
    with pytest.raises(PredictorError, match="logarithms"):
        getattr(predictors, name)(SPACE).fit(TRIALS, np.array([1.0, 2.0, size]))
