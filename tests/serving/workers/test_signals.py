"""A main thread that waits for the signals that stop its process."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from ladle.serving.workers.signals import Signals
from tests.interrupting import handlers_kept, interrupted


@pytest.fixture
def signals() -> Iterator[Signals]:
    with handlers_kept(signal.SIGINT):
        yield Signals([signal.SIGINT])


@pytest.mark.timeout(60)
def test_a_signal_between_any_two_lines_ends_the_wait(signals: Signals) -> None:
    def wait() -> None:
        while not signals.wait(0.001):
            pass

    for moment in range(1, 30):
        signals.count = 0
        interrupted(wait, moment)
        assert signals.count == 1


def test_a_wait_without_end_hears_a_signal(signals: Signals) -> None:
    main = threading.get_ident()
    threading.Timer(0.05, signal.pthread_kill, [main, signal.SIGINT]).start()
    assert signals.wait()
    assert signals.wait(0)


def test_a_wait_ends_without_a_signal_after_its_time(signals: Signals) -> None:
    start = time.monotonic()
    assert not signals.wait(0.05)
    assert time.monotonic() - start >= 0.05


def test_the_handler_gets_the_count() -> None:
    heard: list[int] = []
    with handlers_kept(signal.SIGINT):
        Signals([signal.SIGINT], heard.append)
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
    assert heard == [1, 2]
