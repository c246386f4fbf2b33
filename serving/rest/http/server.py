"""HTTP/1.1 for REST on asyncio: whole requests in, whole answers out. Knows no route."""

from __future__ import annotations

import asyncio
import socket
import time
from email.utils import formatdate

from ladle.serving.rest.http.connection import Connection, Shared
from ladle.serving.rest.http.messages import Application, Limits
from ladle.serving.runtime.listening import settle

_SWEEP_S = 0.25


class HttpServer(Shared):
    """Serves `application` on sockets that listen. A connection's requests are answered one after another."""

    def __init__(self, application: Application, limits: Limits) -> None:
        super().__init__(application, limits)
        self._servers: list[asyncio.Server] = []
        self._sweep: asyncio.TimerHandle | None = None

    async def start(self, sockets: list[socket.socket]) -> None:
        """Accepts connections on these sockets, which it owns from now on."""
        loop = asyncio.get_running_loop()
        self._check_all()
        for listening in sockets:
            self._servers.append(await loop.create_server(lambda: Connection(self), sock=listening, backlog=2048))

    async def stop(self, grace_s: float) -> None:
        """Takes no more connections, answers what has arrived, closes; after `grace_s` seconds, in any case."""
        self.draining = True
        await settle(lambda: self.accepted, grace_s)
        for server in self._servers:
            server.close()
        deadline = time.monotonic() + grace_s
        while self.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()
        if self._sweep is not None:
            self._sweep.cancel()

    def _check_all(self) -> None:
        self.date = formatdate(usegmt=True).encode()
        now = time.monotonic()
        for connection in list(self.connections):
            connection.check(now)
        self._sweep = asyncio.get_running_loop().call_later(_SWEEP_S, self._check_all)
