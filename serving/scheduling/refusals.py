"""How fast requests are refused while the queues are full: refusing must not take the time that the runs need."""

from __future__ import annotations

import asyncio
import time

AT_ONCE = 100
"""Refusals in a burst that nothing holds back."""
PER_SECOND = 500.0
"""Refusals a second that nothing holds back. Reading and refusing a small request takes about 150 µs."""
MAX_HOLD_S = 1.0
MAX_HELD_BYTES = 2**24
"""Of the inputs of all that are held: they stay in memory until then. What comes beside them is refused at once."""
_MAX_BYTES = 2**16  # the same, of one
_DEADLINE_SHARE = 2  # a refusal comes in the first half of the time that its caller has: it may ask another server


class Refusals:
    """Holds back refusals that come faster than PER_SECOND, each for MAX_HOLD_S at most.

    A client that is refused asks again, and thousands a second would leave the engines no time: their threads have a
    lower priority than the event loop. While its refusal is held back, a client cannot ask again on the same connection
    (HTTP/1.1) or stream (HTTP/2), and servers limit those.
    """

    def __init__(self) -> None:
        self._next_at = 0.0  # when the next refusal is due, if all were evenly spaced
        self._held_bytes = 0

    async def take_turn(self, size_bytes: int, deadline: float | None) -> None:
        """Returns when a request may be refused.

        size_bytes  of its inputs
        deadline    `time.monotonic()` seconds, if it has one
        """
        seconds = self.hold_s(time.monotonic(), size_bytes, deadline)
        if seconds > 0 and self._held_bytes + size_bytes <= MAX_HELD_BYTES:
            self._held_bytes += size_bytes
            try:
                await asyncio.sleep(seconds)
            finally:
                self._held_bytes -= size_bytes

    def hold_s(self, now: float, size_bytes: int, deadline: float | None) -> float:
        """Seconds for which a refusal is held back that is due `now`; arguments as for `take_turn`."""
        self._next_at = max(self._next_at, now - AT_ONCE / PER_SECOND) + 1 / PER_SECOND
        wait_s = min(self._next_at - now, MAX_HOLD_S)
        self._next_at = min(self._next_at, now + MAX_HOLD_S)
        if size_bytes > _MAX_BYTES:
            return 0.0
        if deadline is not None:
            wait_s = min(wait_s, (deadline - now) / _DEADLINE_SHARE)
        return max(0.0, wait_s)
