"""Servers that are flaky, go away, come back, want a key, or stand behind TLS: real ones, over both protocols."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from ladle.clients import errors
from ladle.clients.library.client import Client
from ladle.clients.transport import base
from ladle.clients.transport.access import sending
from ladle.clients.wire import messages as pb
from ladle.clients.wire import services

Answer = Callable[[Any, Any], Any]
AVAILABLE = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}


class Status:
    """GetModelStatus over gRPC at a port: `before(context)` may refuse; calls and their headers are kept."""

    def __init__(self, before: Callable[[Any], None] = lambda context: None, port: int = 0, credentials: Any = None):
        self.calls: list[dict[str, str]] = []

        def answer(request: Any, context: Any) -> Any:
            self.calls.append(dict(context.invocation_metadata()))
            before(context)
            response = pb.GetModelStatusResponse()
            response.model_version_status.add(version=1, state=30)
            return response

        self._server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers([services.handler(services.MODEL, {"GetModelStatus": answer})])
        where = f"127.0.0.1:{port}"
        self.port = (
            self._server.add_secure_port(where, credentials) if credentials else self._server.add_insecure_port(where)
        )
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def __enter__(self) -> Status:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Http:
    """The same over REST: `answers` are (status, headers, body) and come first, then the status of a model."""

    def __init__(self, *answers: tuple[int, dict[str, str], Any], port: int = 0, context: Any = None) -> None:
        self.calls: list[dict[str, str]] = []
        self._open: list[socket.socket] = []
        queue = list(answers)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(handler) -> None:  # noqa: N805
                super().setup()
                self._open.append(handler.connection)

            def do_GET(handler) -> None:  # noqa: N805
                self.calls.append({key.lower(): value for key, value in handler.headers.items()})
                status, headers, body = queue.pop(0) if queue else (200, {}, {"model_version_status": [AVAILABLE]})
                data = json.dumps(body).encode()
                handler.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    handler.send_header(name, value)
                handler.end_headers()
                handler.wfile.write(data)

            def log_message(handler, *_: Any) -> None:  # noqa: N805
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Http:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, which are not waited for."""
    taken: list[float] = []
    monkeypatch.setattr(base.time, "sleep", taken.append)
    return taken


def refusing(times: int, code: str, details: str, **trailers: str) -> Callable[[Any], None]:
    left = [times]

    def before(context: Any) -> None:
        if left[0]:
            left[0] -= 1
            context.set_trailing_metadata([(key.replace("_", "-"), value) for key, value in trailers.items()])
            context.abort(grpc.StatusCode[code], details)

    return before


@pytest.mark.parametrize(
    ("code", "trailer", "pause"),
    [
        ("UNAVAILABLE", {"grpc_retry_pushback_ms": "250"}, 0.25),
        ("RESOURCE_EXHAUSTED", {"retry_after": "2"}, 2.0),
    ],
    ids=["pushback", "retry-after"],
)
def test_over_grpc_the_server_says_when_to_retry(
    code: str, trailer: dict[str, str], pause: float, pauses: list[float]
) -> None:
    with Status(refusing(2, code, "shed", **trailer)) as server, Client(f"grpc://127.0.0.1:{server.port}") as client:
        assert client.status("m")[0].version == 1
    assert pauses == [pause, pause]
    assert len(server.calls) == 3


@pytest.mark.parametrize("status", [429, 503])
def test_over_rest_the_server_says_when_to_retry(status: int, pauses: list[float]) -> None:
    with (
        Http((status, {"Retry-After": "3"}, {"error": "shed"})) as server,
        Client(f"http://127.0.0.1:{server.port}") as client,
    ):
        assert client.status("m")[0].version == 1
    assert pauses == [3.0]


def test_a_pause_beyond_the_deadline_is_not_begun(pauses: list[float]) -> None:
    with (
        Http((503, {"Retry-After": "60"}, {"error": "the server is full"})) as server,
        Client(f"http://127.0.0.1:{server.port}", timeout_s=5) as client,
        pytest.raises(errors.Unavailable, match="the server is full"),
    ):
        client.status("m")
    assert pauses == []
    assert len(server.calls) == 1


def test_an_error_that_does_not_ask_for_a_retry_is_final(pauses: list[float]) -> None:
    with (
        Status(refusing(9, "UNAVAILABLE", "broken disk")) as server,
        Client(f"grpc://127.0.0.1:{server.port}") as client,
        pytest.raises(errors.Unavailable, match="broken disk"),
    ):
        client.status("m")
    assert len(server.calls) == 1


def test_several_servers_are_asked_in_turn_and_one_that_dies_is_passed_over() -> None:
    with (
        Status() as first,
        Status() as second,
        Client(f"grpc://127.0.0.1:{first.port},127.0.0.1:{second.port}") as client,
    ):
        for _ in range(6):
            client.status("m")
        assert (len(first.calls), len(second.calls)) == (3, 3)
        first.stop()
        for _ in range(6):
            assert client.status("m")[0].version == 1
        assert (len(first.calls), len(second.calls)) == (3, 9)
        second.stop()
        with pytest.raises(errors.Unavailable, match=r"nothing answers at 127\.0\.0\.1|closes the connection"):
            client.status("m", timeout_s=2)


@pytest.mark.parametrize("kind", [Status, Http], ids=["grpc", "rest"])
def test_a_server_that_is_killed_and_started_again_answers_again(kind: Any) -> None:
    server = kind()
    scheme = "grpc" if kind is Status else "http"
    with Client(f"{scheme}://127.0.0.1:{server.port}", timeout_s=20) as client:
        assert client.status("m")[0].version == 1
        server.stop()
        with pytest.raises(errors.Unavailable):
            client.status("m")
        again = kind(port=server.port)
        try:
            assert client.status("m")[0].version == 1
        finally:
            again.stop()


@pytest.mark.parametrize("kind", [Status, Http], ids=["grpc", "rest"])
def test_the_api_key_and_extra_headers_are_sent(kind: Any) -> None:
    scheme = "grpc" if kind is Status else "http"
    with kind() as server, Client(f"{scheme}://127.0.0.1:{server.port}", api_key="s3cret") as client:
        with sending({"X-Request-Id": "7f3a"}):
            client.status("m")
        client.status("m")
    assert [call["authorization"] for call in server.calls] == ["Bearer s3cret"] * 2
    assert [call.get("x-request-id") for call in server.calls] == ["7f3a", None]


def test_two_clients_of_a_process_share_no_connection() -> None:
    peers = []
    with Status(before=lambda context: peers.append(context.peer())) as server:
        address = f"grpc://127.0.0.1:{server.port}"
        with Client(address) as one, Client(address) as other:
            one.status("m")
            other.status("m")
            one.status("m")
    # They would share the wait after a failed connection too, and the second would fail without a try of its own.
    assert peers[0] == peers[2] != peers[1]


FORKING = """
import os, sys
from ladle.clients.library.client import Client
with Client(sys.argv[1]) as client:
    client.status("m")
    child = os.fork()
    if child == 0:
        os._exit(0 if client.status("m", timeout_s=10)[0].version == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    client.status("m")
"""


@pytest.mark.parametrize("kind", [Status, Http], ids=["grpc", "rest"])
def test_a_forked_process_opens_its_own_connections(kind: Any) -> None:
    scheme = "grpc" if kind is Status else "http"
    with kind() as server:  # its process does not fork: other tests' threads may hold any lock
        address = f"{scheme}://127.0.0.1:{server.port}"
        done = subprocess.run([sys.executable, "-c", FORKING, address], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(server.calls) == 3


@pytest.fixture(params=["grpcs", "https"])
def secure(request: pytest.FixtureRequest, certificates: Path) -> Iterator[str]:
    """The address of a server behind TLS that wants a client certificate."""
    read = {name: (certificates / name).read_bytes() for name in ("ca.crt", "server.crt", "server.key")}
    if request.param == "grpcs":
        pair = [(read["server.key"], read["server.crt"])]
        credentials = grpc.ssl_server_credentials(pair, read["ca.crt"], require_client_auth=True)
        server: Any = Status(credentials=credentials)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
        context.load_verify_locations(certificates / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        server = Http(context=context)
    yield f"{request.param}://127.0.0.1:{server.port}"
    server.stop()


def test_tls_with_a_ca_and_a_client_certificate(secure: str, certificates: Path) -> None:
    own = {"certificate": certificates / "client.crt", "private_key": certificates / "client.key"}
    with Client(secure, ca=certificates / "ca.crt", **own) as client:
        assert client.status("m")[0].version == 1


def test_a_server_of_an_unknown_ca_is_not_trusted(secure: str, certificates: Path) -> None:
    with (
        Client(secure, ca=certificates / "other.crt", timeout_s=5) as client,
        pytest.raises(errors.Unavailable, match=r"refuses this TLS connection: its certificate is not signed by a CA"),
    ):
        client.status("m")


def test_a_server_that_closes_at_once_may_require_tls_or_a_certificate(certificates: Path) -> None:
    read = {name: (certificates / name).read_bytes() for name in ("ca.crt", "server.crt", "server.key")}
    pair = [(read["server.key"], read["server.crt"])]
    credentials = grpc.ssl_server_credentials(pair, read["ca.crt"], require_client_auth=True)
    with Status(credentials=credentials) as server:
        for target, ca in ((f"grpc://127.0.0.1:{server.port}", None), (f"grpcs://127.0.0.1:{server.port}", "ca.crt")):
            with (
                Client(target, ca=certificates / ca if ca else None, timeout_s=10) as client,
                pytest.raises(
                    errors.Unavailable, match=r"closes the connection at once; it may require TLS \(grpcs\) or a client"
                ),
            ):
                client.status("m")


def test_the_error_says_whether_the_port_speaks_http_or_the_host_is_unknown() -> None:
    with (
        Http() as server,
        Client(f"grpc://127.0.0.1:{server.port}", timeout_s=10) as client,
        pytest.raises(
            errors.Unavailable,
            match=f"speaks HTTP/1, not gRPC; if it is the REST port, use http://127.0.0.1:{server.port}",
        ),
    ):
        client.status("m")
    with (
        Client("grpc://no-such-host.invalid", timeout_s=5) as client,
        pytest.raises(
            errors.LadleError, match=r"host name in no-such-host.invalid:8500 is not known|no answer from no-such"
        ),
    ):
        client.status("m")


def test_files_for_tls_are_read_before_anything_is_sent(certificates: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidArgument, match=r"cannot read .*absent.crt: No such file"):
        Client("grpcs://localhost:1", ca=tmp_path / "absent.crt")
    (tmp_path / "text.crt").write_text("no certificate")
    for scheme in ("grpcs", "https"):
        with pytest.raises(errors.InvalidArgument, match=r"text.crt, which is not usable PEM"):
            Client(f"{scheme}://localhost:1", ca=tmp_path / "text.crt")
    with pytest.raises(errors.InvalidArgument, match="only one of certificate and private_key; give both"):
        Client("grpcs://localhost:1", certificate=certificates / "client.crt")
    with pytest.raises(errors.InvalidArgument, match="which has no TLS; use grpcs"):
        Client("grpc://localhost:1", ca=certificates / "ca.crt")


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_messages_have_a_limit_on_both_sides(protocol: str, server: Any) -> None:
    import numpy as np

    target = f"grpc://{server.grpc}" if protocol == "grpc" else server.rest
    with Client(target, max_message_bytes=2000) as client:
        assert client.predict("echo_DT_FLOAT", {"x": np.ones(10, "f4")})["y"].sum() == 10
        with pytest.raises(
            errors.ResourceExhausted, match=r"got a request of .* bytes; this client sends at most 2,000"
        ):
            client.predict("echo_DT_FLOAT", {"x": np.ones(1000, "f4")})
        with pytest.raises(errors.ResourceExhausted):
            client.generate("vae", 500)
