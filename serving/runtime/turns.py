"""Turns of the event loop: what a connection sends beyond its budget waits until the other connections had theirs."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

TURN_S = 1e-3
"""Seconds for which a connection may hold the event loop before the others have their turn."""
_ROUND_S = 2e-3


class Turns:
    """Connections that have more to do than one turn allows. Together they take about 2 ms of each loop iteration.

    Without a common bound, a client could take a turn for each of its connections.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    def add(self, take_turn: Callable[[], None]) -> None:
        """Calls `take_turn` once, in a later iteration of the event loop: after the other sockets have been read."""
        self._waiting.append(take_turn)
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        ends = time.monotonic() + _ROUND_S
        for _ in range(len(self._waiting)):  # one that adds itself again waits for the next iteration
            self._waiting.popleft()()
            if time.monotonic() >= ends:
                break
        self._is_scheduled = bool(self._waiting)
        if self._is_scheduled:
            asyncio.get_running_loop().call_soon(self._run)
