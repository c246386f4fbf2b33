"""SIGINT and SIGTERM as a wish that is asked for, so that a checkpoint is written before the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ladle.training.errors import InterruptedRunError


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Inside, SIGINT and SIGTERM only set what the yielded function returns; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = threading.Event()

    def heard(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise InterruptedRunError("stopped at once; the same command goes on from the last checkpoint")
        asked.set()

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
