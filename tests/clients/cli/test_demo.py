"""The showcase's end; tests/test_end_to_end.py runs it whole."""

from __future__ import annotations

import signal

import pytest

from ladle.clients.cli.demo.__main__ import take_interrupts
from tests.interrupting import handlers_kept, interrupted


@pytest.mark.timeout(60)
def test_ctrl_c_between_any_two_lines_ends_the_wait() -> None:
    def wait() -> None:
        while not is_interrupted(0.001):
            pass

    with handlers_kept(signal.SIGINT):
        for moment in range(1, 30):
            is_interrupted = take_interrupts()
            interrupted(wait, moment)
            assert is_interrupted(0)
