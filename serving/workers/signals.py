"""Signals that stop a process, counted for a main thread that waits for them."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any


class Signals:
    """Takes these signals from now on. For the main thread, which alone may do so.

    count    signals so far
    handler  is called with the count at each signal

    A threading.Event would not do: where a signal interrupts `wait` while that holds the event's lock, `set` in the
    handler waits for the lock for ever.
    """

    def __init__(self, numbers: Sequence[int], handler: Callable[[int], None] = lambda count: None) -> None:
        self.count = 0
        self._handler = handler
        self._awake, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        for number in numbers:
            signal.signal(number, self._handle)

    def wait(self, seconds: float | None = None) -> bool:
        """Whether a signal has come; waits for the first one, at most that long."""
        ends = None if seconds is None else time.monotonic() + seconds
        while not self.count:
            left = None if ends is None else max(0.0, ends - time.monotonic())
            readable, _, _ = select.select([self._awake], [], [], left)
            if not readable:
                break
            os.read(self._awake, 4096)
        return self.count > 0

    def _handle(self, number: int, frame: Any) -> None:
        self.count += 1
        self._handler(self.count)
