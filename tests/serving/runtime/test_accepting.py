"""New connections are taken while those that are open keep the event loop busy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Any

import uvloop

from ladle.serving.runtime.accepting import accept_on
from ladle.serving.runtime.listening import listen

BUSY, NEW = 5, 60
WORK_S = 0.01


class Echo(asyncio.Protocol):
    """Answers every read after some work; its clients read and ask again."""

    made = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        Echo.made += 1

    def data_received(self, data: bytes) -> None:
        time.sleep(WORK_S)
        self.transport.write(data)


def test_all_waiting_connections_are_accepted_at_once() -> None:
    async def keep_asking(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x")
                await reader.readexactly(1)

    async def main() -> None:
        listening = listen("127.0.0.1", 0)
        port = listening.getsockname()[1]
        server = await accept_on(listening, Echo)
        asking = [asyncio.create_task(keep_asking(port)) for _ in range(BUSY)]
        while Echo.made < BUSY:
            await asyncio.sleep(0)
        new = [socket.socket() for _ in range(NEW)]
        for each in new:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        began = time.monotonic()
        while Echo.made < BUSY + NEW:
            await asyncio.sleep(0)
        # One in each iteration, which takes BUSY * WORK_S, would be NEW times as long.
        assert time.monotonic() - began < NEW * BUSY * WORK_S / 3
        for task in asking:
            task.cancel()
        server.close()
        for each in new:
            each.close()

    uvloop.run(main())
