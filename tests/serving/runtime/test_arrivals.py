"""A request that waited in the kernel for a busy event loop is dated to its arrival."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from typing import Any

import pytest

from ladle.serving.runtime.arrivals import Arrivals

HELD_UP_S = 0.3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when the last segment came")
@pytest.mark.parametrize("size", [1, 100_000], ids=["small", "large"])
def test_bytes_are_dated_to_their_arrival(size: int) -> None:
    ages: list[tuple[int, float]] = []

    class Reading(asyncio.BufferedProtocol):
        def connection_made(self, transport: Any) -> None:
            self.arrivals, self.buffer = Arrivals(transport), bytearray(30_000)

        def get_buffer(self, hint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, count: int) -> None:
            now = time.monotonic()
            ages.append((count, now - self.arrivals.of(count, now)))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        accepted: asyncio.Future[None] = loop.create_future()

        class Accepting(Reading):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                accepted.set_result(None)

        server = await loop.create_server(Accepting, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            await accepted
            client.sendall(bytes(size))
            sent = time.monotonic()
            time.sleep(HELD_UP_S)  # holds up the event loop
            while sum(count for count, _ in ages) < size:
                await asyncio.sleep(0)
            most = time.monotonic() - sent
        server.close()
        # Of what is read in several pieces, the last one is known best: nothing came behind it.
        assert HELD_UP_S - 0.05 <= ages[-1][1] <= most + 0.05

    asyncio.run(main())
