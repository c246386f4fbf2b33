"""Room for compressed messages: what they unpack to is counted before it is made.

A message of 64 kB may hold 64 MiB. One connection may send hundreds of them at once, so they wait until there is room,
and are unpacked one or two at a time, in threads.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ladle.serving.grpc.wire import decompress

MAX_EXPANSION = 1032
"""Bytes that deflate can make of one."""
INLINE_BYTES = 2**18
"""Messages that are not larger once unpacked are unpacked at once, on the event loop: it takes half a millisecond."""
_PER_CONNECTION = 4  # a connection may have this share of the room: a quarter
_FOR_SMALL = 8  # messages that are unpacked at once may take an eighth more
_AT_ONCE = 2


@dataclass(eq=False)
class Held:
    """Room that one message has, in bytes; `owner` is its connection."""

    owner: object
    size: int = 0


@dataclass(eq=False)
class _Waiting:
    held: Held
    size: int
    future: asyncio.Future[None]


class Room:
    """Bytes for unpacked messages, in all and by connection. Used on the event loop only.

    limit   of all messages, with `others`; a message that is larger gets its room when it is the only one
    others  bytes that count, too: of requests that are arriving
    """

    def __init__(self, limit: int, others: Callable[[], int] = lambda: 0) -> None:
        self._limit, self._share, self._others = limit, limit // _PER_CONNECTION, others
        self._taken = 0
        self._by_owner: dict[object, int] = {}
        self._waiting: dict[object, deque[_Waiting]] = {}
        self._threads = asyncio.Semaphore(_AT_ONCE)

    def take_now(self, held: Held, size: int) -> bool:
        """Gives a small message room, ahead of large ones that wait; False if there is none."""
        own, more = self._by_owner.get(held.owner, 0), self._limit // _FOR_SMALL
        if self._taken + size > self._limit + more or own + size > self._share + more:
            return False
        self._add(held, size)
        return True

    def give(self, held: Held, size: int | None = None) -> None:
        """Takes back a part of a message's room, or all of it."""
        if held.size:
            self._add(held, -(held.size if size is None else size))
            if self._waiting:
                self._wake()

    async def unpack(self, held: Held, body: bytes, encoding: bytes, max_bytes: int) -> bytes:
        """The message, once there is room for it; it has the room of its own size from then on, until `give`.

        StatusError when it is damaged or too large.
        """
        most = min(max_bytes, MAX_EXPANSION * len(body))
        await self._take(held, most)
        try:
            async with self._threads:
                # A thread cannot be cancelled, and what it makes takes memory until it ends.
                unpacking = asyncio.ensure_future(asyncio.to_thread(decompress, body, encoding, max_bytes))
                try:
                    message = await asyncio.shield(unpacking)
                except asyncio.CancelledError:
                    await asyncio.wait([unpacking])
                    if not unpacking.cancelled():
                        unpacking.exception()
                    raise
        except BaseException:
            self.give(held)
            raise
        self.give(held, most - len(message))
        return message

    async def _take(self, held: Held, size: int) -> None:
        waiting = _Waiting(held, size, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(held.owner, deque()).append(waiting)
        self._wake()
        try:
            await waiting.future
        except asyncio.CancelledError:
            queue = self._waiting.get(held.owner, ())
            if waiting in queue:
                self._waiting[held.owner].remove(waiting)
                if not queue:
                    del self._waiting[held.owner]
            self.give(held)  # it may have got its room in the same tick
            raise

    def _wake(self) -> None:
        """Gives room to messages that wait, one of each connection in turn."""
        gave = True
        while gave:
            gave = False
            for owner, queue in list(self._waiting.items()):
                waiting, own = queue[0], self._by_owner.get(owner, 0)
                if self._taken and self._taken + self._others() + waiting.size > self._limit:
                    return
                if own and own + waiting.size > self._share:
                    continue
                queue.popleft()
                if not queue:
                    del self._waiting[owner]
                self._add(waiting.held, waiting.size)
                waiting.future.set_result(None)
                gave = True

    def _add(self, held: Held, size: int) -> None:
        held.size += size
        self._taken += size
        own = self._by_owner.get(held.owner, 0) + size
        if own:
            self._by_owner[held.owner] = own
        else:
            self._by_owner.pop(held.owner, None)


def unpack_small(data: bytes, encoding: bytes, max_bytes: int) -> bytes | None:
    """The message, if it is whole, and small once unpacked; else None."""
    decompressor = zlib.decompressobj(wbits=31 if encoding == b"gzip" else 15)
    try:
        message = decompressor.decompress(data, min(INLINE_BYTES, max_bytes))
    except zlib.error:
        return None
    return message if decompressor.eof else None
