"""HTTP/1.1 for REST on asyncio: whole requests in, whole answers out. Knows no route."""

from __future__ import annotations

import asyncio
import socket
import time

from ladle.serving.rest.http.connection import Connection
from ladle.serving.rest.http.messages import JSON, Application, Limits
from ladle.serving.rest.http.state import ServerState
from ladle.serving.runtime.accepting import accept_on
from ladle.serving.runtime.listening import block_new_connections, settle

_CHECK_EVERY_S = 0.25


class HttpServer:
    """Serves `application` on listening sockets. The requests of one connection are answered one after another.

    headers  of the server's own answers, to what never reaches the application: too large, too slow, malformed
    """

    def __init__(self, application: Application, limits: Limits, headers: bytes = JSON) -> None:
        self.state = ServerState(application, limits, headers)
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, sockets: list[socket.socket]) -> None:
        """Accepts connections on these sockets, and closes the sockets when it stops."""
        self._check_timeouts()
        self._sockets = sockets
        for listening in sockets:
            self._servers.append(await accept_on(listening, lambda: Connection(self.state)))

    async def stop(self, grace_s: float) -> None:
        """Accepts nothing more and answers what has arrived; closes every connection after `grace_s` seconds."""
        self.state.is_draining = True
        for listening in self._sockets:
            block_new_connections(listening)
        await settle(lambda: self.state.accepted, grace_s)
        for server in self._servers:
            server.close()
        deadline = time.monotonic() + grace_s
        while self.state.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self.state.connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()

    def _check_timeouts(self) -> None:
        # One timer for all connections: a timer for each would be set and cancelled with every request.
        # In English whatever the environment says: Python leaves the locale of times as it is in C.
        self.state.date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()).encode()
        now = time.monotonic()
        for connection in list(self.state.connections):
            connection.check_timeout(now)
        self._timer = asyncio.get_running_loop().call_later(_CHECK_EVERY_S, self._check_timeouts)
