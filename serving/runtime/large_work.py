"""Work that would hold up the event loop, in threads, a few pieces at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class LargeWork:
    """Runs functions in threads, `most` at once: as Python values, a large request takes many times its size."""

    def __init__(self, most: int = 2) -> None:
        self._free = asyncio.Semaphore(most)

    async def run(self, function: Callable[[], T]) -> T:
        """The result of the function."""
        await self._free.acquire()
        running = asyncio.get_running_loop().run_in_executor(None, function)
        # A thread cannot be cancelled: its place is free when it ends, not when its caller leaves.
        running.add_done_callback(self._end)
        return await asyncio.shield(running)

    def _end(self, ended: asyncio.Future[Any]) -> None:
        self._free.release()
        if not ended.cancelled():
            ended.exception()  # else asyncio would log the error of a caller that has left
