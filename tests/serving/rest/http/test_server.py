"""HTTP/1.1 itself: framing, order, limits, time-outs, shutdown. The server under test echoes each request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ladle.serving.rest.http.connection import _LINGER_S
from ladle.serving.rest.http.messages import Answer, Limits, Request
from ladle.serving.rest.http.receiver import MAX_KEPT_HEADS
from ladle.serving.rest.http.server import HttpServer
from ladle.serving.runtime.listening import listen

SMALL = Limits(body_bytes=10_000, header_bytes=4096, read_timeout_s=0.6, keep_alive_s=0.6, buffered_bytes=15_000)
POST = b"POST /echo HTTP/1.1\r\nHost: h\r\n"


holding = threading.Event()


async def echo(request: Request) -> Answer:
    """The request as JSON; /wait/<seconds> answers later, /hold/<seconds> keeps the loop, /large/<bytes> is much."""
    path = request.path.decode()
    if path.startswith("/wait/"):
        await asyncio.sleep(float(path[6:]))
    if path.startswith("/hold/"):
        holding.set()
        time.sleep(float(path[6:]))
    if path.startswith("/large/"):
        return Answer(200, b"x" * int(path[7:]))
    told = {"method": request.method, "path": path, "body": request.body.decode("latin-1")}
    if path == "/unread":
        told["unread_s"] = str(request.unread_s)
    return Answer(200, json.dumps(told).encode())


@pytest.fixture
def start() -> Iterator[Callable[..., SimpleNamespace]]:
    """Starts servers with limits: `port`, `http` and `stop(grace_s)`."""
    started: list[SimpleNamespace] = []

    def make(limits: Limits = SMALL) -> SimpleNamespace:
        listening = listen("127.0.0.1", 0)
        loop = asyncio.new_event_loop()
        http = HttpServer(echo, limits)
        loop.run_until_complete(http.start([listening]))
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()

        def stop(grace_s: float = 0.0) -> None:
            asyncio.run_coroutine_threadsafe(http.stop(grace_s), loop).result(30)

        server = SimpleNamespace(port=listening.getsockname()[1], http=http, stop=stop, loop=loop, thread=thread)
        started.append(server)
        return server

    yield make
    for server in started:
        server.stop()
        server.loop.call_soon_threadsafe(server.loop.stop)
        server.thread.join()
        server.loop.close()


class Client:
    def __init__(self, server: SimpleNamespace) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, method: str = "POST") -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body."""
        line = self._file.readline()
        if not line:
            raise EOFError
        headers = {}
        while (header := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = header.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = self._file.read(int(headers.get("content-length", 0)) if method != "HEAD" else 0)
        return int(line.split()[1]), headers, body

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def is_closed(self) -> bool:
        """Waits until the server ends the connection; TimeoutError when it does not."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("http://h:1/echo?a=b", "/echo?a=b"),
        ("HTTPS://h/v1/models/http://x", "/v1/models/http://x"),
        ("http://h", "/"),
        ("http://h?a", "/?a"),
        ("/http://h/echo", "/http://h/echo"),
    ],
)
def test_a_target_may_name_scheme_and_host(start: Any, target: str, path: str) -> None:
    client = Client(start())
    client.send(f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode())
    status, _, body = client.read()
    assert (status, json.loads(body)["path"]) == (200, path)


def test_a_request_may_come_in_any_pieces(start: Any) -> None:
    client = Client(start())
    for byte in POST + b"Content-Length: 5\r\n\r\nhello":
        client.send(bytes([byte]))
    status, headers, body = client.read()
    assert (status, json.loads(body)) == (200, {"method": "POST", "path": "/echo", "body": "hello"})
    assert headers["content-type"] == "application/json"
    assert headers["date"].endswith("GMT")
    assert "connection" not in headers


def test_a_head_that_was_parsed_before_says_the_same_again(start: Any) -> None:
    server = start()
    head = POST + b"Content-Length: 2\r\n\r\n"
    client, other = Client(server), Client(server)
    for body in (b"ab", b"\r\n", b"cd"):
        for each in (client, other):
            each.send(head + body)
            assert json.loads(each.read()[2]) == {"method": "POST", "path": "/echo", "body": body.decode()}
    assert list(server.http.state.heads) == [head]
    client.send((head + b"ef") * 2)  # several in one piece, and one in two, go through the parser
    assert [json.loads(client.read()[2])["body"] for _ in range(2)] == ["ef", "ef"]
    client.send(head + b"g")
    client.send(b"h")
    assert json.loads(client.read()[2])["body"] == "gh"
    client.send(b"GET /get HTTP/1.1\r\nHost: h\r\n\r\n")
    assert json.loads(client.read("GET")[2]) == {"method": "GET", "path": "/get", "body": ""}
    assert server.http.state.buffered_bytes == 0
    client.send(head + b"i")
    assert client.read()[0] == 408


@pytest.mark.parametrize(
    "line",
    [b"Connection: close", b"Expect: 100-continue", b"Upgrade: h2c\r\nConnection: Upgrade", b"X-Long: " + b"x" * 1024],
    ids=["close", "expect", "upgrade", "long"],
)
def test_a_head_with_something_special_is_parsed_each_time(start: Any, line: bytes) -> None:
    server = start()
    for _ in range(2):
        client = Client(server)
        client.send(POST + line + b"\r\nContent-Length: 2\r\n\r\nab")
        status, _, content = client.read()
        while status == 100:
            status, _, content = client.read()
        assert json.loads(content)["body"] == "ab"
    assert not server.http.state.heads


def test_a_head_is_kept_only_with_the_room_that_its_body_had(start: Any) -> None:
    server = start(Limits(body_bytes=10_000, buffered_bytes=15_000, read_timeout_s=5))
    first, second, third = (Client(server) for _ in range(3))
    head = b"POST /wait/1 HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\n\r\n"
    first.send(head + b"x" * 9000)
    assert first.read()[0] == 200
    first.send(head + b"x" * 9000)
    second.send(head + b"x" * 9000)
    assert sorted((first.read()[0], second.read()[0])) == [200, 503]
    third.send(head + b"x" * 9000)
    assert third.read()[0] == 200


def test_the_heads_that_are_kept_are_bounded(start: Any) -> None:
    server = start()
    client = Client(server)
    for number in range(MAX_KEPT_HEADS + 2):
        client.send(POST + b"X: %d\r\nContent-Length: 0\r\n\r\n" % number)
        assert client.read()[0] == 200
    assert 0 < len(server.http.state.heads) <= MAX_KEPT_HEADS


def test_chunks_are_joined_and_trailers_are_dropped(start: Any) -> None:
    client = Client(start())
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: t\r\n\r\n")
    assert json.loads(client.read()[2])["body"] == "hello"


def test_pipelined_requests_are_answered_in_order(start: Any) -> None:
    client = Client(start())
    paths = ["/wait/0.2", "/now", "/wait/0.05", *(f"/{n}" for n in range(50))]
    client.send(b"".join(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode() for path in paths))
    assert [json.loads(client.read()[2])["path"] for _ in paths] == paths


def test_expect_100_continue_is_answered(start: Any) -> None:
    client = Client(start())
    client.send(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert client.read()[0] == 100
    client.send(b"ok")
    assert json.loads(client.read()[2])["body"] == "ok"
    client.send(POST + b"Expect: 100-continue\r\nContent-Length: 20000\r\n\r\n")
    assert client.read()[0] == 413


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
    ids=["1.1", "close", "1.0", "1.0 that would stay"],
)
def test_connections_are_kept_alive_as_http_says(start: Any, head: bytes, closes: bool) -> None:
    client = Client(start())
    client.send(head)
    assert client.read()[1].get("connection") == ("close" if closes else None)
    if closes:
        assert client.is_closed()
    else:
        client.send(head)
        assert client.read()[0] == 200


def test_head_has_no_body(start: Any) -> None:
    client = Client(start())
    client.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" + b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n")
    assert int(client.read("HEAD")[1]["content-length"]) > 0
    assert json.loads(client.read()[2])["path"] == "/next"


def test_a_request_to_upgrade_is_answered_over_http_1_1(start: Any) -> None:
    client = Client(start())
    client.send(POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}")
    assert json.loads(client.read()[2])["body"] == "{}"
    client.send(POST + b"Content-Length: 2\r\n\r\n[]")
    assert json.loads(client.read()[2])["body"] == "[]"


@pytest.mark.parametrize(
    ("sent", "status", "text"),
    [
        (b"nonsense\r\n\r\n", 400, "this is not HTTP/1.1"),
        (POST + b"Content-Length: 10001\r\n\r\n", 413, "the request's body is larger than 10000 bytes"),
        (
            POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1388\r\n" + b"x" * 5000 + b"\r\n1389\r\n" + b"x" * 5001,
            413,
            "the request's body is larger than 10000 bytes",
        ),
        (POST + b"A: " + b"a" * 5000 + b"\r\n\r\n", 431, "the request's head is larger than the limit: 4096 bytes"),
        (POST + b"A: " + b"a" * 5000, 431, "the request's head is larger than 4096 bytes"),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", 431, "the request's head is larger"),
        (POST + b"".join(b"A%d: b\r\n" % n for n in range(200)) + b"\r\n", 431, "4096 bytes, 128 lines"),
        (b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\nabc", 400, "this is not HTTP/1.1"),
        (POST + b"Content-Length: 9\r\nContent-Length: 9\r\n\r\n", 400, "this is not HTTP/1.1"),
        (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "this is not HTTP/1.1"),
        (
            POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;%b\r\nx\r\n" % (b"e" * 50) * 300,
            413,
            "the request's body comes in too small chunks",
        ),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nT: " + b"t" * 20_000, 413, "too small chunks"),
    ],
    ids=[
        "no HTTP", "length", "chunks", "header", "endless header", "path", "many headers", "tunnel", "two lengths",
        "length and chunks", "chunk extensions", "trailer",
    ],
)  # fmt: skip
def test_malformed_and_too_large_requests_are_refused_and_the_connection_closed(
    start: Any, sent: bytes, status: int, text: str
) -> None:
    client = Client(start())
    client.send(sent)
    answer = client.read()
    assert answer[0] == status
    assert text in json.loads(answer[2])["error"]
    assert answer[1]["connection"] == "close"
    assert client.is_closed()


def test_bodies_that_arrive_at_once_are_limited_together(start: Any) -> None:
    server = start()
    clients = [Client(server) for _ in range(3)]
    for client in clients[:2]:
        client.send(POST + b"Content-Length: 9000\r\n\r\n" + b"x" * 7000)
    clients[2].send(POST + b"Content-Length: 9000\r\n\r\n" + b"x" * 7000)
    answers = []
    for client in clients:
        with contextlib.suppress(EOFError):
            answers.append(client.read())
    refused = [answer for answer in answers if answer[0] == 503]
    assert len(refused) == 1
    assert refused[0][1]["retry-after"] == "1"
    assert server.http.state.buffered_bytes == 0


def test_bodies_count_until_they_are_answered(start: Any) -> None:
    server = start()
    slow, other = Client(server), Client(server)
    slow.send(b"POST /wait/1 HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000)
    wait_for(lambda: server.http.state.buffered_bytes == 9000)
    other.send(POST + b"Content-Length: 9000\r\n\r\n" + b"x" * 9000)
    assert other.read()[0] == 503
    assert slow.read()[0] == 200
    wait_for(lambda: server.http.state.buffered_bytes == 0)
    leaver = Client(server)
    leaver.send(b"POST /wait/60 HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000)
    wait_for(lambda: server.http.state.buffered_bytes == 9000)
    leaver.close()
    wait_for(lambda: server.http.state.buffered_bytes == 0)


def test_a_request_that_arrives_too_slowly_gets_408(start: Any) -> None:
    client = Client(start())
    client.send(POST + b"Content-Length: 100\r\n\r\nhalf")
    status, _, body = client.read()
    assert (status, json.loads(body)["error"]) == (408, "the request did not arrive within 0.6 seconds")
    assert client.is_closed()


def test_an_idle_connection_is_closed(start: Any) -> None:
    server = start()
    client = Client(server)
    client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert client.read()[0] == 200
    assert client.is_closed()
    assert Client(server).is_closed()


def test_a_client_that_reads_no_answers_is_disconnected(start: Any) -> None:
    server = start()
    client = Client(server)
    client.send(b"GET /large/3000000 HTTP/1.1\r\nHost: h\r\n\r\n" * 50)
    deadline = time.monotonic() + 20
    while server.http.state.connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not server.http.state.connections


def test_the_last_answer_may_be_read_as_slowly_as_any_other(start: Any) -> None:
    client = Client(start(Limits()))
    client.send(b"GET /large/30000000 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    time.sleep(_LINGER_S + 1)  # longer than a client that has been refused would have
    assert len(client.read()[2]) == 30_000_000
    assert client.is_closed()


def test_a_client_that_never_reads_the_end_of_an_answer_is_disconnected(start: Any) -> None:
    """What waits to be sent is so little that asyncio does not mind."""
    server = start()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", server.port))
        transport = wait_for(lambda: next(iter(server.http.state.connections), None))._transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        client.sendall(b"GET /large/60000 HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_for(transport.get_write_buffer_size)
        wait_for(lambda: not server.http.state.connections)


def wait_for(condition: Callable[[], Any], limit_s: float = 20.0) -> Any:
    end = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.001)
    return found


def test_a_running_request_has_no_time_out_here(start: Any) -> None:
    client = Client(start())
    client.send(b"GET /wait/1.5 HTTP/1.1\r\nHost: h\r\n\r\n")
    assert client.read()[0] == 200


def test_connections_beyond_the_limit_get_503(start: Any) -> None:
    server = start(Limits(connections=2))
    first, second, third = (Client(server) for _ in range(3))
    status, headers, _ = third.read()
    assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
    assert third.is_closed()
    first.socket.close()
    second.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert second.read()[0] == 200


def test_the_request_of_a_client_that_leaves_is_cancelled(start: Any) -> None:
    server = start()
    client = Client(server)
    client.send(b"GET /wait/30 HTTP/1.1\r\nHost: h\r\n\r\n")
    client.close()
    deadline = time.monotonic() + 20
    while server.http.state.connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not server.http.state.connections


def test_stopping_answers_what_has_arrived(start: Any) -> None:
    server = start(Limits())
    busy, idle = Client(server), Client(server)
    busy.send(b"GET /wait/0.5 HTTP/1.1\r\nHost: h\r\n\r\nGET /last HTTP/1.1\r\nHost: h\r\n\r\n")
    idle.send(b"GET /idle HTTP/1.1\r\nHost: h\r\n\r\n")
    assert idle.read()[0] == 200
    server.stop(10.0)
    assert "connection" not in busy.read()[1]
    assert busy.read()[1]["connection"] == "close"
    assert busy.is_closed()
    assert idle.is_closed()
    with pytest.raises(ConnectionError):
        Client(server)


def test_stopping_waits_no_longer_than_its_grace_period(start: Any) -> None:
    server = start(Limits())
    client = Client(server)
    client.send(b"GET /wait/30 HTTP/1.1\r\nHost: h\r\n\r\n")
    start_s = time.monotonic()
    server.stop(0.3)
    assert time.monotonic() - start_s < 10
    assert client.is_closed()


# The letter of RFC 9110 and 9112


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"POST /echo HTTP/1.1\r\n", 400),
        (POST + b"Host: h\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a b\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: h:port\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: h/x\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: user@h\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost:\r\n", 200),
        (b"POST /echo HTTP/1.1\r\nHost: h.example:80\r\n", 200),
        (b"POST /echo HTTP/1.1\r\nHost: [::1]:80\r\n", 200),
        (b"POST /echo HTTP/1.0\r\n", 200),
        (b"POST /echo HTTP/2.0\r\nHost: h\r\n", 505),
        (b"POST /echo RTSP/1.0\r\nHost: h\r\n", 400),
    ],
    ids=["none", "two", "blank", "port", "path", "user", "empty", "name and port", "IPv6", "1.0", "HTTP/2.0", "RTSP"],
)
def test_request_lines_and_hosts_are_checked(start: Any, lines: bytes, status: int) -> None:
    client = Client(start())
    client.send(lines + b"Content-Length: 2\r\n\r\n{}")
    assert client.read()[0] == status
    if status != 200:
        assert client.is_closed()


@pytest.mark.parametrize(
    "connection", [b"Connection: Upgrade, close\r\n", b"Connection: Upgrade\r\nConnection: close\r\n"]
)
def test_a_request_to_upgrade_and_close_is_answered_and_closed(start: Any, connection: bytes) -> None:
    client = Client(start())
    client.send(POST + connection + b"Upgrade: h2c\r\nContent-Length: 2\r\n\r\n{}")
    status, headers, _ = client.read()
    assert (status, headers["connection"]) == (200, "close")
    assert client.is_closed()


def test_100_continue_comes_once_after_the_answers_before_it_and_never_to_http_1_0(start: Any) -> None:
    server = start()
    expect = b"Expect: 100-continue\r\nContent-Length: 2\r\n"
    client = Client(server)
    client.send(b"GET /wait/0.2 HTTP/1.1\r\nHost: h\r\n\r\n" + POST + expect + b"\r\n")
    assert json.loads(client.read()[2])["path"] == "/wait/0.2"
    assert client.read()[0] == 100
    client.send(b"ok")
    assert client.read()[0] == 200
    client.send(POST + expect + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert client.read()[0] == 100
    client.send(b"ok")
    assert client.read()[0] == 200
    old = Client(server)
    old.send(b"POST /echo HTTP/1.0\r\n" + expect + b"\r\n")
    old.send(b"ok")
    assert old.read()[0] == 200


@pytest.mark.parametrize("path", [b"/now", b"/wait/0.2"], ids=["quick", "slow"])
def test_good_requests_are_answered_before_a_malformed_one_is_refused(start: Any, path: bytes) -> None:
    client = Client(start())
    good = b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path
    client.send(good * 2 + b"nonsense\r\n\r\n")
    first, second, third = (client.read() for _ in range(3))
    assert (first[0], second[0], third[0]) == (200, 200, 400)
    assert "connection" not in second[1]
    assert third[1]["connection"] == "close"
    assert client.is_closed()


@pytest.mark.parametrize("paths", [["/wait/0.3"], ["/wait/0.3", "/last"]], ids=["one", "two"])
def test_a_client_that_half_closes_gets_its_answers(start: Any, paths: list[str]) -> None:
    client = Client(start())
    client.send(b"".join(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode() for path in paths))
    client.socket.shutdown(socket.SHUT_WR)
    answers = []
    with contextlib.suppress(EOFError):
        while True:
            answers.append(client.read())
    assert [json.loads(body)["path"] for status, _, body in answers if status != 100] == paths


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when the last segment came")
def test_a_request_says_for_how_long_a_busy_server_left_it_unread(start: Any) -> None:
    server = start()
    holder, late = Client(server), Client(server)
    ask = b"GET /unread HTTP/1.1\r\nHost: h\r\n\r\n"
    late.send(ask)
    assert float(json.loads(late.read("GET")[2])["unread_s"]) < 0.1
    holding.clear()
    holder.send(b"GET /hold/0.5 HTTP/1.1\r\nHost: h\r\n\r\n")
    assert holding.wait(20)
    late.send(ask)
    assert 0.25 < float(json.loads(late.read("GET")[2])["unread_s"]) < 5


def test_what_waits_for_the_answers_before_it_is_not_unread(start: Any) -> None:
    client = Client(start())
    ask = b"GET /unread HTTP/1.1\r\nHost: h\r\n\r\n"
    client.send(b"GET /wait/0.3 HTTP/1.1\r\nHost: h\r\n\r\n" + ask)
    client.send(ask)  # the server has stopped reading by now
    client.read("GET")
    assert [float(json.loads(client.read("GET")[2])["unread_s"]) < 0.1 for _ in range(2)] == [True, True]
