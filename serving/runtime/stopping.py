"""Stops a run that nobody waits for any more: its deadline has passed, or its client has left.

The event loop decides; the thread that runs has to be told. ONNX Runtime looks between two operations of a graph
whether it should end, so a stopped run ends after the operation that it is in.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from ladle.serving.errors import Cancelled


class Stop:
    """Tells one run to end early. Any thread may set it; the thread that runs reads it.

    deadline  `time.monotonic()` seconds after which nobody waits for the run; None: not known
    """

    __slots__ = ("_callback", "deadline", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self.deadline: float | None = None
        self._callback: Callable[[], None] | None = None

    def set(self) -> None:
        """Ask the run to end. Later calls do nothing more."""
        self.is_set = True
        callback = self._callback
        if callback is not None:
            callback()

    def call(self, callback: Callable[[], None] | None) -> None:
        """Call this when the run should end; at once if it should already. None: nothing is to be called any more."""
        # Stored before `is_set` is read, and set before it is read there: whichever comes second makes the call.
        self._callback = callback
        if callback is not None and self.is_set:
            callback()

    def check(self) -> None:
        """Raises Cancelled if the run should end. Nobody sees the error: nobody waits for the answer."""
        if self.is_set:
            raise Cancelled("the run was stopped, because nobody waits for its answer any more")


class _Running(threading.local):
    stop: Stop | None = None


running = _Running()
"""`running.stop` is what `current` returns: every request reads it, and a call would take longer than that."""


@contextlib.contextmanager
def stoppable(stop: Stop) -> Iterator[None]:
    """What this thread runs inside can be stopped."""
    running.stop = stop
    try:
        yield
    finally:
        running.stop = None
        stop.call(None)


def current() -> Stop | None:
    """The `Stop` of what this thread runs; None on the event loop, where only quick requests run."""
    return running.stop
