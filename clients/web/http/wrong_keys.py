"""Wrong API keys by caller: after a few, each further one makes the caller wait longer."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

FREE = 5
"""This many wrong keys are answered before the first wait: people mistype, and scripts still hold a revoked key."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
"""The wait doubles with each wrong key. It ends at a minute, since others may be behind the same address."""
FORGET_S = 600.0
"""A caller without a wrong key for this long begins anew."""
MAX_CALLERS = 10_000


@dataclass
class _Caller:
    wrong: int = 0
    last: float = -math.inf
    until: float = -math.inf


class WrongKeys:
    """Counts wrong keys by caller, in this process. Threads share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._callers: dict[str, _Caller] = {}  # in the order of their last wrong keys

    def checked(self, caller: str, check: Callable[[], str | None]) -> tuple[str | None, float]:
        """What `check` returns, None for a wrong key, and how many seconds the caller has to wait.

        A caller that has to wait is told so and `check` is not called: otherwise a right guess would show during the
        wait. A right key does not clear the count, or a caller with one key could guess others.
        """
        # One lock for reading, checking and counting: wrong keys sent at once cannot all pass before the first counts.
        with self._lock:
            now = self._clock()
            found = self._callers.get(caller)
            if found is not None and now - found.last > FORGET_S:
                del self._callers[caller]
            elif found is not None and now < found.until:
                return None, found.until - now
            owner = check()
            if owner is None:
                found = self._callers.pop(caller, None) or _Caller()
                found.wrong, found.last = found.wrong + 1, now
                if found.wrong >= FREE:
                    found.until = now + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(found.wrong - FREE, 16))
                if len(self._callers) >= MAX_CALLERS:
                    self._callers.pop(next(iter(self._callers)))
                self._callers[caller] = found
            return owner, 0.0
