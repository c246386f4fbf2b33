"""The gateway's overhead: requests without an answer do not count as measurements."""

from __future__ import annotations

from itertools import cycle

import pytest

from benchmarks import front
from benchmarks.requests.payloads import WrongAnswerError


def test_failed_requests_are_counted_but_not_timed() -> None:
    answered = cycle([True, False])
    found = front.compare(lambda: None, lambda: next(answered), pairs=10, warm_up=2)
    assert (found.pairs, found.failed) == (5, 5)


def test_a_gateway_without_any_answer_is_an_error() -> None:
    with pytest.raises(WrongAnswerError, match="no answer to 3 requests"):
        front.compare(lambda: None, lambda: False, pairs=3)
