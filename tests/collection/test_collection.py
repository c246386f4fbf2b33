"""Models as people bring them get graphs that answer what TensorFlow answers, or none and a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.collection.cases import Case
from tests.collection.collection import CASES
from tests.collection.measure import measure, measure_apart

EACH = [pytest.param(case, marks=() if case.is_quick else pytest.mark.slow, id=case.name) for case in CASES]


def test_names_are_given_once() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 120


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", EACH)
def test_a_model_is_converted_right_or_refused(case: Case, tmp_path: Path) -> None:
    # A slow model may crash TensorFlow, and a quick one shares the process: starting one takes seconds.
    outcome = measure(case, tmp_path / "1") if case.is_quick else measure_apart(case.name, tmp_path / "1")
    assert outcome.crash == ""
    assert outcome.wrong == []
    if case.refused is not None:
        assert outcome.graphs == []
        assert all(case.refused in reason for reason in outcome.reasons.values())
    elif not case.strings:
        assert outcome.reasons == {}
