"""HTTP/1.1 of the awaited client: whole and broken answers, and connections that are used again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ladle.clients import errors
from ladle.clients.library.async_client import AsyncClient
from ladle.clients.library.client import Client
from ladle.clients.transport import protocol
from ladle.clients.transport.access import sending

BODY = b'{"model_version_status": [{"version": "7", "state": "AVAILABLE", "status": {}}]}'
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextlib.contextmanager
def answering(*answers: bytes) -> Iterator[Any]:
    """A server that answers with these bytes in turn and after the last hangs up, once it may; it keeps what came."""
    seen = SimpleNamespace(address="", connections=0, requests=[], may=threading.Event(), hung_up=threading.Event())
    seen.may.set()
    left = list(answers)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                seen.connections += 1
                with connection, connection.makefile("rb") as file:
                    while left and (lines := list(iter(file.readline, b"\r\n"))):
                        seen.requests.append(lines)
                        connection.sendall(left.pop(0))
                    seen.may.wait(10)
                seen.hung_up.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=serve)
        thread.start()
        yield seen
        left.clear()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried again."""
    monkeypatch.setattr(protocol, "ATTEMPTS", 1)


@pytest.mark.usefixtures("once")
def test_header_fields_after_a_chunked_body_are_not_taken_for_the_next_answer() -> None:
    chunks = b"%x;a=b\r\n%s\r\n" % (len(BODY), BODY)

    async def ask(address: str) -> list[int]:
        async with AsyncClient(address) as client:
            return [(await client.status("lenet5"))[0].version for _ in range(2)]

    with answering(CHUNKED + chunks + b"0\r\nServer-Timing: total\r\n\r\n", PLAIN) as server:
        assert asyncio.run(ask(server.address)) == [7, 7]
    assert server.connections == 1


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "is not HTTP", id="length-no-number"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "is not HTTP", id="length-below-zero"),
        pytest.param(CHUNKED + b"zz\r\n", "is not HTTP", id="chunk-no-number"),
        pytest.param(CHUNKED + b"-8\r\n", "is not HTTP", id="chunk-below-zero"),
        pytest.param(CHUNKED + b"2\r\n{}\r\n", "ended before the answer was whole", id="cut-between-chunks"),
        pytest.param(b"x" * 100_000 + b"\r\n\r\n", "is not HTTP", id="head-too-long"),
    ],
)
def test_an_answer_that_is_not_http_is_a_ladle_error(answer: bytes, said: str) -> None:
    async def ask(address: str) -> None:
        async with AsyncClient(address) as client:
            await client.status("lenet5")

    with answering(answer) as server, pytest.raises(errors.Unavailable, match=said):
        asyncio.run(ask(server.address))


@pytest.mark.usefixtures("once")
def test_a_connection_that_ended_while_the_loop_was_busy_is_not_used_again() -> None:
    async def ask(server: Any) -> int:
        async with AsyncClient(server.address) as client:
            server.may.clear()
            await client.status("lenet5")
            server.may.set()
            assert server.hung_up.wait(10)  # the event loop stands still
            with pytest.raises(errors.Unavailable, match="broke the connection"):
                await client.status("lenet5")
            return server.connections

    with answering(PLAIN) as server:
        assert asyncio.run(ask(server)) == 2


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_no_version_label_or_header_adds_lines_to_a_request(kind: Any) -> None:
    evil: Any = "1 HTTP/1.1\r\nx-evil: 1\r\nx:"

    def ask(address: str, **which: Any) -> None:
        async def awaited() -> None:
            async with AsyncClient(address) as client:
                await client.status("lenet5", **which)

        if kind is AsyncClient:
            asyncio.run(awaited())
            return
        with Client(address) as client:
            client.status("lenet5", **which)

    with answering() as server:
        with pytest.raises(errors.InvalidArgument, match="expected a whole number"):
            ask(server.address, version=evil)
        for headers in ({"x-request-id": "a\r\nx-evil: 1"}, {"x\r\nx-evil": "1"}, {"x-request-id": "ü"}):
            with pytest.raises(errors.InvalidArgument, match="that a header cannot carry"), sending(headers):
                ask(server.address)
    assert server.requests == []


@pytest.mark.parametrize("path", ["/a b", "/a\r\nx: y", "?key=1", "/v1?key=1", "#top", "/größe"])
def test_an_address_holds_nothing_that_a_request_line_cannot(path: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="is not an address"):
        Client(f"http://localhost:8501{path}")
