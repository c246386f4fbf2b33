"""What listens on a port: HTTP/1, HTTP/2, either of them over TLS, something else, or nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import urllib.error
import urllib.request
from typing import Literal

Protocol = Literal["nothing", "silence", "http1", "http2", "tls", "tls http1", "tls http2", "other"]
NAMES: dict[Protocol, str] = {
    "nothing": "nothing",
    "silence": "a program that accepts connections and says nothing",
    "http1": "HTTP/1",
    "http2": "HTTP/2 without TLS",
    "tls": "TLS",
    "tls http1": "HTTP/1 over TLS",
    "tls http2": "HTTP/2 over TLS",
    "other": "another protocol",
}
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # and an empty SETTINGS frame
_SETTINGS = 4
_ALERT = 0x15  # a TLS record


def find_protocol(host: str, port: int, timeout_s: float = 1.0) -> Protocol:
    """What answers on a TCP port. Each of at most three connections waits for `timeout_s` seconds."""
    try:
        answer = _exchange(host, port, _PREFACE, timeout_s)
    except (ConnectionRefusedError, TimeoutError, socket.gaierror):
        return "nothing"
    except OSError:
        answer = b""
    if len(answer) >= 9 and answer[3] == _SETTINGS:
        return "http2"
    if answer.startswith(b"HTTP/1"):
        return "http1"
    if not answer or answer[0] == _ALERT:  # TLS, or a server that closes on what it does not know
        over_tls = _over_tls(host, port, timeout_s)
        if over_tls is not None:
            return over_tls
        with contextlib.suppress(OSError):
            answer = _exchange(host, port, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", timeout_s)
        return "http1" if answer.startswith(b"HTTP/1") else "other" if answer else "silence"
    return "other"


def _exchange(host: str, port: int, data: bytes, timeout_s: float) -> bytes:
    """The first bytes of an answer; empty when none comes in time. OSError when nobody accepts."""
    with socket.create_connection((host, port), timeout_s) as connection:
        try:
            connection.sendall(data)
            return connection.recv(64)
        except OSError:
            return b""


def _over_tls(host: str, port: int, timeout_s: float) -> Protocol | None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # which protocol it is, not who
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with (
            socket.create_connection((host, port), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            chosen = secured.selected_alpn_protocol()
    except ssl.SSLError as error:
        # A server that wants the client's certificate says so in an alert: it speaks TLS.
        return "tls" if "ALERT" in str(error).upper() else None
    except OSError:
        return None
    return {"h2": "tls http2", "http/1.1": "tls http1"}.get(str(chosen), "tls")  # type: ignore[return-value]


def is_rest_model_server(host: str, port: int, timeout_s: float = 2.0) -> bool:
    """Whether a model server answers REST: for a model that it lacks it says 404 and an error in JSON."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a port of this machine
    try:
        with opener.open(f"http://{host}:{port}/v1/models/ladle-doctor", timeout=timeout_s):
            return False
    except urllib.error.HTTPError as error:
        with contextlib.suppress(ValueError, OSError):
            return error.code == 404 and "error" in json.loads(error.read(4096))
    except (OSError, ValueError):
        pass
    return False
