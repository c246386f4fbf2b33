"""Signals at chosen moments: between any two lines that the main thread runs, the standard library's included."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


def interrupted(wait: Callable[[], Any], moment: int, number: int = signal.SIGINT) -> None:
    """Calls `wait`, and raises the signal before the line that it runs as number `moment`."""
    left = moment

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                signal.raise_signal(number)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        wait()
    finally:
        sys.settrace(before)


@contextlib.contextmanager
def handlers_kept(*numbers: int) -> Iterator[None]:
    """Puts back the handlers of these signals, and the file descriptor that they wake."""
    before = {number: signal.getsignal(number) for number in numbers}
    descriptor = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor)
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
