"""The gRPC servers: which is chosen, what both carry, TLS, limits."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.serving.errors import InvalidArgument
from ladle.serving.grpc import backend as grpc_backend
from ladle.serving.grpc.backend import Settings
from ladle.serving.grpc.http2.frames import ACK, PING, PREFACE, SETTINGS, frame
from ladle.serving.grpc.native import read_timeout
from tests.stubs import grpc_stub

PREDICT = f"/{services.PREDICTION}/Predict"


def predict_request(rows: int = 1, model: str = "half_plus_two") -> Any:
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name=model))
    tensors.fill(request.inputs["x"], np.ones((rows, 1), np.float32), True)
    return request


def ask(channel: Any, request: Any = None, **options: Any) -> list[float]:
    answer = grpc_stub(channel, services.PREDICTION).Predict(request or predict_request(), timeout=30, **options)
    return tensors.to_array(answer.outputs["y"]).ravel().tolist()


@pytest.fixture(scope="module", params=["native", "grpcio"])
def server(request: pytest.FixtureRequest, serve: Any, tiny_repository: Path) -> Any:
    flags = ["--max_request_bytes=100000", "--max_header_bytes=8192", "--max_concurrent_streams=4"]
    flags += ["--request_read_seconds=1", "--max_connections=20"]
    started = serve(
        "--repository", tiny_repository, f"--grpc_backend={request.param}", *flags, models=["half_plus_two"]
    )
    assert f"gRPC backend {request.param}: set by --grpc_backend" in started.log.read_text()
    return started


@pytest.fixture
def channel(server: Any) -> Any:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


@pytest.mark.parametrize(
    ("settings", "backend", "reason"),
    [
        (Settings(), "native", "no setting requires grpcio"),
        (Settings("grpcio"), "grpcio", "set by --grpc_backend"),
        (Settings("native"), "native", "set by --grpc_backend"),
        (Settings(ssl_file="ssl"), "grpcio", "native does not support TLS"),
        (Settings(arguments="grpc.max_concurrent_streams=9"), "native", "no setting requires grpcio"),
        (
            Settings(arguments="grpc.max_connection_age_ms=9"),
            "grpcio",
            "native does not support the channel argument grpc.max_connection_age_ms",
        ),
    ],
    ids=["auto", "grpcio", "native", "TLS", "known argument", "other argument"],
)
def test_the_backend_and_the_reason_for_it(settings: Settings, backend: str, reason: str) -> None:
    assert grpc_backend.choose(settings) == (backend, reason)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (Settings("rust"), "got --grpc_backend=rust; expected auto, grpcio or native"),
        (Settings("native", ssl_file="ssl"), "--grpc_backend=native does not support TLS; use --grpc_backend=grpcio"),
    ],
    ids=["unknown", "TLS"],
)
def test_an_impossible_backend_is_refused(settings: Settings, text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        grpc_backend.choose(settings)
    assert caught.value.message == text


def test_channel_arguments_are_integers_where_they_can_be() -> None:
    text = "a=1,b=-7,c=x,d=2147483648,e=,f,g=1=2"
    expected = [("a", 1), ("b", -7), ("c", "x"), ("d", "2147483648"), ("e", ""), ("g", "1=2")]
    assert grpc_backend.parse_arguments(text) == expected


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate], ids=["gzip", "deflate"])
def test_compressed_messages_are_read(channel: Any, compression: grpc.Compression) -> None:
    assert ask(channel, predict_request(1000), compression=compression) == [2.5] * 1000


def test_large_messages_go_both_ways(serve: Any, tiny_repository: Path, server: Any) -> None:
    backend = "native" if "backend native" in server.log.read_text() else "grpcio"
    roomy = serve("--repository", tiny_repository, f"--grpc_backend={backend}", models=["half_plus_two"])
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{roomy.grpc_port}", options=options) as channel:
        assert ask(channel, predict_request(2_000_000)) == [2.5] * 2_000_000
    roomy.stop()


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip], ids=["plain", "gzip"])
def test_a_message_beyond_the_limit_is_refused(channel: Any, compression: grpc.Compression | None) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, predict_request(3_000_000), compression=compression)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ask(channel) == [2.5]


def test_headers_beyond_the_limit_are_refused(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, metadata=[("x-long", "a" * 20_000)])
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ask(channel, metadata=[("x-short", "a" * 2000)]) == [2.5]


def test_an_unknown_method_is_unimplemented(channel: Any) -> None:
    for path in ("/tensorflow.serving.SessionService/SessionRun", "/no.Service/None"):
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(path)(b"", timeout=30)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_bytes_that_are_no_request_are_an_invalid_argument(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(PREDICT)(b"\xff\xff", timeout=30)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "the request is not a tensorflow.serving.PredictRequest"


def test_more_calls_than_streams_wait_for_each_other(server: Any, channel: Any) -> None:
    if "backend grpcio" in server.log.read_text():
        pytest.skip("grpcio's server counts a stream for a while after the client has seen its end")
    call = grpc_stub(channel, services.PREDICTION).Predict
    call(predict_request(), timeout=30)  # after which the client knows the limit
    answers = [call.future(predict_request(), timeout=30) for _ in range(100)]
    assert all(list(answer.result().outputs["y"].float_val) == [2.5] for answer in answers)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"5S", 5.0),
        (b"250m", 0.25),
        (b"2H", 7200.0),
        (b"99999999u", 99.999999),
        (b"", None),
        (b"5", None),
        (b"-1S", None),
    ],
    ids=["seconds", "milliseconds", "hours", "microseconds", "none", "no unit", "negative"],
)
def test_the_callers_timeout_is_read(text: bytes, seconds: float | None) -> None:
    assert read_timeout(text) == (None if seconds is None else pytest.approx(seconds))


def test_a_silent_connection_is_closed(server: Any) -> None:
    with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=30) as connection:
        while connection.recv(1000):  # SETTINGS, then the end; else TimeoutError
            pass


def test_connections_beyond_the_limit_are_closed(server: Any) -> None:
    connections = [socket.create_connection(("127.0.0.1", server.grpc_port), timeout=30) for _ in range(40)]
    for connection in connections:  # that they end for being silent would prove nothing
        with contextlib.suppress(ConnectionError):
            connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
    closed: set[socket.socket] = set()
    end = time.monotonic() + 30
    while len(closed) < 15 and time.monotonic() < end:
        readable, _, _ = select.select([each for each in connections if each not in closed], [], [], 1)
        closed |= {connection for connection in readable if has_ended(connection)}
    assert len(closed) >= 15
    # The server may take them in another order than they came in. Those that it took it serves.
    kept = next(connection for connection in connections if connection not in closed)
    kept.sendall(frame(PING, 0, 0, b"are you?"))
    assert frame(PING, ACK, 0, b"are you?") in read_until(kept, b"are you?")
    for connection in connections:
        connection.close()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        grpc.channel_ready_future(channel).result(30)
        assert ask(channel) == [2.5]


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    found = b""
    while wanted not in found:
        data = connection.recv(1000)
        assert data, "closed"
        found += data
    return found


def has_ended(connection: socket.socket) -> bool:
    """Reads what is there; whether that was all that ever comes."""
    try:
        return not connection.recv(1000)
    except ConnectionError:
        return True


def test_reflection_lists_services_and_describes_them(channel: Any) -> None:
    from google.protobuf import descriptor_database, descriptor_pb2, descriptor_pool
    from grpc_reflection.v1alpha import reflection_pb2

    def methods(answer: Any) -> dict[str, dict[str, str]]:
        """Per service its methods, with the type that each takes. The files alone must make a pool."""
        database = descriptor_database.DescriptorDatabase()
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(data)
            for data in answer.file_descriptor_response.file_descriptor_proto
        ]
        for file in files:
            database.Add(file)
        pool = descriptor_pool.DescriptorPool(database)
        found = [pool.FindServiceByName(f"{file.package}.{s.name}") for file in files for s in file.service]
        return {s.full_name: {m.name: m.input_type.full_name for m in s.methods} for s in found}

    for version in ("v1alpha", "v1"):
        call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=services.PREDICTION),
        ]
        listed, described = call(iter(asked), timeout=30)
        names = {service.name for service in listed.list_services_response.service}
        assert {services.PREDICTION, services.MODEL, services.HEALTH} <= names
        assert {"Predict", "Classify", "Regress"} <= methods(described)[services.PREDICTION].keys()
        each = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in sorted(names)]
        for name, answer in zip(sorted(names), call(iter(each), timeout=30), strict=True):
            assert methods(answer)[name], name
            for types in methods(answer)[name].values():
                (found,) = call(
                    iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol=types)]), timeout=30
                )
                assert found.HasField("file_descriptor_response"), types
        (health,) = call(
            iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol=services.HEALTH)]), timeout=30
        )
        assert methods(health)[services.HEALTH].keys() == {"Check", "List", "Watch"}


def test_watch_reports_each_change_of_health(serve: Any, tiny: Any, repository: Path, server: Any) -> None:
    backend = "native" if "backend native" in server.log.read_text() else "grpcio"
    path = repository / "m"
    other = serve("--model_name=m", f"--model_base_path={path}", f"--grpc_backend={backend}")
    with grpc.insecure_channel(f"127.0.0.1:{other.grpc_port}") as channel:
        health = grpc_stub(channel, services.HEALTH)
        changes = health.Watch(pb.HealthCheckRequest(service="PredictionService"), timeout=60)
        assert pb.ServingStatus.Name(next(changes).status) == "NOT_SERVING"
        tiny.half_plus(1).write(path, 1)
        assert pb.ServingStatus.Name(next(changes).status) == "SERVING"
        unknown = health.Watch(pb.HealthCheckRequest(service="nope"), timeout=60)
        assert pb.ServingStatus.Name(next(unknown).status) == "SERVICE_UNKNOWN"
        other.process.terminate()
        assert pb.ServingStatus.Name(next(changes).status) == "NOT_SERVING"
        assert list(changes) == []
    assert other.process.wait(60) == 0


# TLS


def make_certificates(folder: Path) -> Callable[[str], str]:
    """An authority, a server and a client that it vouches for, and a stranger; gives their PEM texts by file name."""

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    for name in ("authority", "stranger"):
        run("req", "-x509", *new, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name in ("server", "client"):
        run("req", *new[:-2], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ["-CA", "authority.crt", "-CAkey", "authority.key", "-CAcreateserial", "-days", "2"]
        run("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt", "-extfile", "names")
    return lambda name: (folder / name).read_text()


def ssl_config(pem: Callable[[str], str], client_verify: bool) -> str:
    def quote(name: str) -> str:
        return '"' + pem(name).replace("\n", "\\n") + '"'

    verify = f"custom_ca: {quote('authority.crt')} client_verify: true" if client_verify else ""
    return f"server_key: {quote('server.key')} server_cert: {quote('server.crt')} {verify}"


@pytest.mark.parametrize("client_verify", [False, True], ids=["server", "both"])
def test_tls_protects_the_grpc_port(
    serve: Any, tiny_repository: Path, tmp_path: Path, tiny: Any, client_verify: bool
) -> None:
    pem = make_certificates(tmp_path)
    config = tmp_path / "ssl.config"
    config.write_text(ssl_config(pem, client_verify))
    server = serve("--repository", tiny_repository, f"--ssl_config_file={config}", models=["half_plus_two"])
    assert "gRPC backend grpcio: native does not support TLS" in server.log.read_text()
    authority = pem("authority.crt").encode()

    def ask_with(*own: bytes) -> list[float]:
        credentials = grpc.ssl_channel_credentials(authority, *own)
        with grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", credentials) as channel:
            return ask(channel)

    assert ask_with(pem("client.key").encode(), pem("client.crt").encode()) == [2.5]
    if client_verify:
        for own in ((), (pem("stranger.key").encode(), pem("stranger.crt").encode())):
            with pytest.raises(grpc.RpcError):
                ask_with(*own)
    else:
        assert ask_with() == [2.5]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as plain, pytest.raises(grpc.RpcError):
        ask(plain)
    assert server.get("/v2/health/live")[0] == 200, "REST stays plain"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("server_key: 3", "Invalid protobuf file: "),
        ('server_key: "/etc/key.pem"', "ssl_config_file: server_key is not PEM text; expected the contents"),
    ],
    ids=["syntax", "path"],
)
def test_a_wrong_ssl_config_stops_the_start(tmp_path: Path, text: str, reason: str) -> None:
    from ladle.serving.runtime.tls import read_credentials

    path = tmp_path / "ssl.config"
    path.write_text(text)
    with pytest.raises(InvalidArgument) as caught:
        read_credentials(path)
    assert caught.value.message.startswith(reason)
