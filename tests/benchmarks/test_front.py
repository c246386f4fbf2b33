"""The gateway's overhead: what is not answered is no measurement."""

from __future__ import annotations

from itertools import cycle

import pytest

from benchmarks import front
from benchmarks.payloads import WrongAnswerError


def test_failed_answers_are_counted_apart_from_the_times() -> None:
    answered = cycle([True, False])
    found = front.compare(lambda: None, lambda: next(answered), pairs=10, warm_up=2)
    assert (found.pairs, found.failed) == (5, 5)


def test_a_gateway_that_answers_nothing_is_not_measured() -> None:
    with pytest.raises(WrongAnswerError, match="none of 3 requests"):
        front.compare(lambda: None, lambda: False, pairs=3)
