"""Turn SIGINT and SIGTERM into a request to stop, so that a run can write a checkpoint first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ladle.training.errors import InterruptedRunError


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns True once SIGINT or SIGTERM has arrived.

    A second signal raises InterruptedRunError at once, without a new checkpoint. Outside the main thread the function
    always returns False.
    """
    # Python lets only the main thread install signal handlers.
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    requested: list[int] = []  # no Event: where a second signal interrupts its `set`, both wait for one lock for ever

    def handle(number: int, frame: FrameType | None) -> None:
        # The first signal must not raise: an exception between two writes to the model's variables would leave a
        # state that no uninterrupted run has.
        if requested:
            raise InterruptedRunError("stopped at once; the same command continues from the last checkpoint")
        requested.append(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(requested)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
