import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.outcome import Failed, Finished, clipped, number, outcome_of_exception, outcome_of_result
from workers.protocol import FailureKind


class FakeTensor:
    """Looks like a torch tensor without dimensions."""

    def __init__(self, value, device):
        self.value, self.device, self.shape = value, device, ()

    def item(self):
        return self.value


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**53), 2**53))
def test_finite_numbers_are_a_result(error, macs):
    outcome = outcome_of_result({"error": error, "macs": macs}, ("error", "macs"))
    assert outcome == Finished(metrics={"error": error, "macs": float(macs)})


@pytest.mark.parametrize(
    "value", [0.5, 1, np.float32(0.5), np.float64(0.5), np.int64(3), np.array(0.5), FakeTensor(0.5, "cpu")]
)
def test_scalars_of_any_library_are_numbers(value):
    assert isinstance(outcome_of_result({"error": value}, ("error",)), Finished)
    assert type(number(value)) is float


def test_a_torch_scalar_is_a_number():
    torch = pytest.importorskip("torch")
    assert number(torch.tensor(0.25)) == 0.25
    assert number(torch.tensor(0.25, requires_grad=True)) == 0.25


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "None"),
        (0.5, "0.5"),
        ([("error", 1)], "list"),
        ({}, "did not return the metric 'error'"),
        ({"eror": 1.0}, "did you mean 'error'"),
        ({"error": 1.0, "loss": 2.0}, "'loss' that the study does not have"),
        ({"error": True}, "bool"),
        ({"error": np.bool_(True)}, "bool"),
        ({"error": "0.5"}, "str"),
        ({"error": 1j}, "complex"),
        ({"error": np.complex64(1)}, "complex"),
        ({"error": None}, "None"),
        ({"error": np.zeros(3)}, r"of shape \(3,\)"),
        ({"error": FakeTensor(0.5, "cuda:0")}, "a tensor on cuda:0"),
        ({"error": 10**400}, "too large"),
        ({3: 1.0}, "3"),
    ],
)
def test_anything_else_is_a_bad_result_that_says_what_came_and_what_is_wanted(returned, said):
    outcome = outcome_of_result(returned, ("error",))
    assert isinstance(outcome, Failed)
    assert outcome.kind is FailureKind.BAD_RESULT
    assert pytest.importorskip("re").search(said, outcome.text)
    assert "one finite number for each of: error" in outcome.text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_what_is_not_finite_fails_as_nan(value):
    outcome = outcome_of_result({"error": value}, ("error",))
    assert isinstance(outcome, Failed)
    assert outcome.kind is FailureKind.NAN
    assert "'error'" in outcome.text


def test_a_stopped_evaluation_may_leave_metrics_out_and_loses_those_not_finite():
    wanted = ("error", "macs")
    assert outcome_of_result({}, wanted, "late") == Finished(metrics={}, stopped="late")
    assert outcome_of_result(None, wanted, "late") == Finished(metrics={}, stopped="late")
    found = outcome_of_result({"error": math.nan, "macs": 3}, wanted, "late")
    assert found == Finished(metrics={"macs": 3.0}, stopped="late")
    assert isinstance(outcome_of_result({"error": "x"}, wanted, "late"), Failed)


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


def raised(error, cause=None):
    try:
        raise error from cause
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), FailureKind.OUT_OF_MEMORY),
        (OutOfMemoryError("CUDA out of memory"), FailureKind.OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), FailureKind.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), FailureKind.OUT_OF_MEMORY),
        (FloatingPointError("loss is nan"), FailureKind.NAN),
        (ValueError("out of memory of my dog"), FailureKind.EXCEPTION),
        (SystemExit(2), FailureKind.EXCEPTION),
    ],
)
def test_exceptions_are_classified(error, kind):
    outcome = outcome_of_exception(raised(error))
    assert outcome.kind is kind
    assert "test_outcome.py" in outcome.text
    assert type(error).__name__ in outcome.text
    assert not outcome.transient


def test_the_cause_of_an_exception_counts():
    assert outcome_of_exception(raised(ValueError("x"), MemoryError())).kind is FailureKind.OUT_OF_MEMORY


def test_an_exception_may_say_that_it_is_transient():
    error = raised(RuntimeError("busy"))
    error.transient = True
    assert outcome_of_exception(error).transient


@given(st.text(max_size=200), st.integers(40, 120))
def test_clipped_text_fits_and_keeps_both_ends(text, size):
    short = clipped(text, size)
    assert len(short.encode()) <= size
    assert "\0" not in short
    if len(text.encode("utf-8", "backslashreplace")) * 2 <= size:
        assert short == text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    assert clipped("a" * 500 + "the end", size).endswith("the end")


def test_a_broken_repr_does_no_harm():
    class Broken:
        def __repr__(self):
            raise RuntimeError("no")

    assert "no repr" in outcome_of_result({"error": Broken()}, ("error",)).text
