"""Both transports: the same methods, arrays and errors."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ladle.clients import errors
from ladle.clients.library.client import Client
from ladle.clients.transport import base
from ladle.clients.transport.metadata import TensorInfo
from ladle.clients.transport.protocol import ATTEMPTS
from ladle.clients.transport.rest import RestTransport
from ladle.clients.wire import tensors

REST_CANNOT = {"DT_COMPLEX64", "DT_COMPLEX128", "DT_BFLOAT16"}


@pytest.mark.parametrize("dtype", tensors.DTYPES.values(), ids=lambda dtype: dtype.name)
def test_arrays_of_every_dtype_come_back_the_same(client: Client, dtype: tensors.DType) -> None:
    if dtype is tensors.STRING:
        array = np.array([[b"a", b""], [b'\xff\x00\n"', "ü".encode()]], object)
    else:
        array = np.array([[0, 1], [1, 0]]).astype(dtype.numpy)
    if isinstance(client.transport, RestTransport) and dtype.name in REST_CANNOT:
        with pytest.raises(errors.InvalidArgument, match="which JSON cannot carry; send it over gRPC"):
            client.predict(f"echo_{dtype.name}", {"x": array})
        return
    answer = client.predict(f"echo_{dtype.name}", {"x": array})["y"]
    wanted = tensors.widen(array)
    assert answer.dtype == wanted.dtype
    assert answer.tolist() == wanted.tolist()


@pytest.mark.parametrize("shape", [(), (0,), (3,), (1, 2, 3, 4)], ids=str)
def test_shapes_come_back_the_same(client: Client, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    assert client.predict("echo_DT_FLOAT", {"x": array})["y"].shape == shape


def test_extreme_numbers_come_back_exactly(client: Client) -> None:
    floats = np.array([np.nan, np.inf, -np.inf, -0.0, 1 / 3, 3e-45, 3.4e38], np.float32)
    np.testing.assert_array_equal(client.predict("echo_DT_FLOAT", {"x": floats})["y"], floats)
    integers = np.array([-(2**63), 2**63 - 1])
    np.testing.assert_array_equal(client.predict("echo_DT_INT64", {"x": integers})["y"], integers)


def test_lists_and_text_get_the_dtype_of_the_signature(client: Client) -> None:
    assert client.predict("echo_DT_FLOAT", {"x": [[1, 2]]})["y"].dtype == np.float32
    assert client.predict("echo_DT_INT8", {"x": 3})["y"].dtype == np.int8
    assert client.predict("echo_DT_STRING", {"x": ["a", "ü"]})["y"].tolist() == [b"a", "ü".encode()]
    with pytest.raises(errors.InvalidArgument, match=r'input "x": got 1.5 at \[0\]; expected int8 of any rank, whole'):
        client.predict("echo_DT_INT8", {"x": [1.5]})
    with pytest.raises(errors.InvalidArgument, match='input "x": got a value that is not a tensor'):
        client.predict("echo_DT_INT8", {"x": [[1], [2, 3]]})


def test_only_the_outputs_asked_for_come_back(client: Client) -> None:
    image = np.zeros((1, 4, 4, 1), np.float32)
    assert client.predict("lenet5", {"image": image}, outputs=["label"]).keys() == {"label"}


def test_messages_beyond_four_megabytes_pass(client: Client) -> None:
    array = np.ones(600_000 if isinstance(client.transport, RestTransport) else 4_000_000, np.float32)
    np.testing.assert_array_equal(client.predict("echo_DT_FLOAT", {"x": array}, timeout_s=120)["y"], array)


def test_metadata_tells_signatures_with_dtypes_and_shapes(client: Client) -> None:
    metadata = client.metadata("lenet5")
    assert (metadata.name, metadata.version) == ("lenet5", 3)
    assert sorted(metadata.signatures) == ["classify", "serving_bytes", "serving_default"]
    default = metadata.signature("serving_default")
    assert default.inputs == {"image": TensorInfo("float32", (None, 4, 4, 1))}
    assert str(default.inputs["image"]) == "float32 [?, 4, 4, 1]"
    assert default.outputs["label"] == TensorInfo("string", (None,))
    assert default.method == "tensorflow/serving/predict"
    assert client.metadata("echo_DT_BFLOAT16").signature("serving_default").inputs == {
        "x": TensorInfo("bfloat16", None)
    }


def test_status_tells_the_versions(client: Client) -> None:
    (status,) = client.status("lenet5")
    assert (status.version, status.state, status.error_code) == (3, "AVAILABLE", "OK")


def test_names_with_odd_characters_are_carried(client: Client) -> None:
    assert client.predict("a/b:c ü", {"x": np.float32(2)})["y"] == 2
    assert client.status("a/b:c ü")[0].version == 3


def test_errors_begin_with_the_models_name_and_carry_a_code(client: Client) -> None:
    for ask in (client.metadata, client.status, lambda name: client.predict(name, {"x": np.zeros(1)})):
        not_served = "none: not served: the server lacks this model or has not loaded it yet"
        with pytest.raises(errors.NotFound, match=not_served) as caught:
            ask("none")
        assert caught.value.code == "NOT_FOUND"
    with pytest.raises(errors.InvalidArgument, match='no signature "nope"; it has classify, serving_bytes'):
        client.predict("lenet5", {"x": np.zeros(1)}, "nope")
    with pytest.raises(errors.InvalidArgument, match="Unrecognized servable version label: x"):
        client.metadata("lenet5", label="x")


def test_a_late_answer_is_a_deadline_exceeded(client: Client, server: Any) -> None:
    with pytest.raises(errors.DeadlineExceeded, match=r"no answer from 127.0.0.1:\d+ within 0.2 s"):
        client.predict("slow", {"x": np.zeros(1, np.float32)}, timeout_s=0.2)
    with pytest.raises(errors.InvalidArgument, match="got timeout_s=0; expected more than 0 seconds"):
        client.predict("slow", {"x": np.zeros(1, np.float32)}, timeout_s=0)
    server.release.set()


def test_a_request_that_met_a_full_queue_is_retried(client: Client, server: Any) -> None:
    full = "The batch scheduling queue to which this task was submitted is full; currently 10 batches"
    server.refuse("UNAVAILABLE", full, times=2)
    assert client.predict("echo_DT_FLOAT", {"x": np.float32(1)})["y"] == 1
    assert server.predictions == 3
    server.refuse("UNAVAILABLE", full, times=9)
    with pytest.raises(errors.Unavailable, match="queue to which this task was submitted is full"):
        client.predict("echo_DT_FLOAT", {"x": np.float32(1)})
    assert server.predictions == 3 + ATTEMPTS


def test_a_request_that_may_have_run_is_not_retried(client: Client, server: Any) -> None:
    server.refuse("UNAVAILABLE", "the accelerator went away", times=1)
    with pytest.raises(errors.Unavailable, match="the accelerator went away"):
        client.predict("echo_DT_FLOAT", {"x": np.float32(1)})
    assert server.predictions == 1


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_error_for_an_address_without_a_server_says_how_to_start_one(protocol: str) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unheard.getsockname()[1]}"
        with (
            Client(f"{protocol}://{address}") as client,
            pytest.raises(errors.Unavailable, match=f"nothing answers at {address}; start it with `ladle serve`"),
        ):
            client.status("lenet5")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_that_comes_late_is_still_found(protocol: str, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = (server.grpc if protocol == "grpc" else server.rest.removeprefix("http://")).split(":")
    with socket.socket() as front:
        front.bind(("127.0.0.1", 0))
        came = []

        def arrive(seconds: float) -> None:  # at the first pause between tries
            if not came:
                front.listen()
                came.append(threading.Thread(target=forward, args=(front, int(target[1])), daemon=True))
                came[0].start()
            threading.Event().wait(seconds)

        monkeypatch.setattr(base.time, "sleep", arrive)
        with Client(f"{protocol}://127.0.0.1:{front.getsockname()[1]}") as client:
            assert client.status("lenet5")[0].version == 3
        assert came


def forward(front: socket.socket, port: int) -> None:
    """Pass one connection on, both ways, until it ends."""
    near, _ = front.accept()
    far = socket.create_connection(("127.0.0.1", port))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    back = threading.Thread(target=pump, args=(far, near), daemon=True)
    back.start()
    pump(near, far)
    back.join()
    near.close()
    far.close()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_connection_that_breaks_is_unavailable(protocol: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:

        def hang_up() -> None:
            for _ in range(ATTEMPTS):
                try:
                    connection, _ = rude.accept()
                    connection.recv(1)
                    connection.close()
                except OSError:
                    return

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        with (
            Client(f"{protocol}://127.0.0.1:{rude.getsockname()[1]}") as client,
            pytest.raises(errors.Unavailable),
        ):
            client.status("lenet5")


def test_a_closed_client_says_so(client: Client) -> None:
    client.close()
    with pytest.raises(errors.Cancelled, match="is closed; make another"):
        client.status("lenet5")


def test_threads_share_a_client(client: Client) -> None:
    def ask(i: int) -> bool:
        array = np.full(50, i, np.float32)
        return bool((client.predict("echo_DT_FLOAT", {"x": array})["y"] == array).all())

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(ask, range(60)))


def test_rest_keeps_its_connection(server: Any) -> None:
    with Client(server.rest) as client:
        for _ in range(5):
            client.status("lenet5")
        assert server.connections == 1
        server.hang_up = True  # without a word, as at the end of an idle time
        client.status("lenet5")
        server.hang_up = False
        wait_until_closed(client)
        client.status("lenet5")
        assert server.connections == 2


def wait_until_closed(client: Any) -> None:
    (idle,) = client.transport._pool._idle
    idle.sock.settimeout(10)
    assert idle.sock.recv(1, socket.MSG_PEEK) == b""


def test_the_error_says_that_the_port_is_no_model_server(server: Any) -> None:
    with (
        Client(f"{server.rest}/not/here") as client,
        pytest.raises(errors.NotFound, match=r"answered 404 without JSON; check that it is a model"),
    ):
        client.status("lenet5")
    with (
        Client(f"http://{server.grpc}") as client,
        pytest.raises(errors.Unavailable, match="broke the connection"),
    ):
        client.status("lenet5")
    with (
        Client(server.rest.replace("http", "grpc")) as other,
        pytest.raises(errors.Unavailable),
    ):
        other.status("lenet5", timeout_s=5)
