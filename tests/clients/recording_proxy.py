"""An HTTP proxy that records what it is asked."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import threading
from urllib.parse import urlsplit


class RecordingProxy:
    """A proxy that tunnels (CONNECT) and forwards; whatever the host, it connects to this machine.

    asked          request lines, in order
    authorization  the last value of Proxy-Authorization
    status         what it answers instead, if not 200
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.authorization: str | None = None
        self.status = 200
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"http://{self.address}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        self._open.append(caller)
        with contextlib.suppress(OSError, ValueError):
            data = b""
            while b"\r\n\r\n" not in data:
                data += caller.recv(65536) or _ended()
            head, _, rest = data.partition(b"\r\n\r\n")
            line, _, fields = head.partition(b"\r\n")
            method, target, protocol = line.decode().split()
            headers = http.client.parse_headers(io.BytesIO(fields + b"\r\n\r\n"))
            self.authorization = headers["proxy-authorization"]
            self.asked.append(f"{method} {target}")
            if self.status != 200:
                caller.sendall(b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.status)
                caller.close()
                return
            url = urlsplit(f"//{target}" if method == "CONNECT" else target)
            server = socket.create_connection(("127.0.0.1", url.port or 80))
            self._open.append(server)
            if method == "CONNECT":
                caller.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:  # one request for each connection
                path = url.path + (f"?{url.query}" if url.query else "")
                kept = [f"{name}: {value}" for name, value in headers.items() if name.lower()[:6] != "proxy-"]
                lines = [f"{method} {path} {protocol}", *kept, "Connection: close", "", ""]
                server.sendall("\r\n".join(lines).encode() + rest)
            threading.Thread(target=_copy, args=(server, caller), daemon=True).start()
            _copy(caller, server)

    def close(self) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _ended() -> bytes:
    raise ConnectionError


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
