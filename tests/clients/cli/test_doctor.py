"""The doctor looks at real folders and ports."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ladle.clients.cli import doctor
from ladle.clients.transport.what_answers import find_protocol


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version of a model as the exporter leaves it, as far as the doctor looks."""
    folder = tmp_path / "lenet5" / "1"
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"saved")
    (folder / "model.onnx").write_bytes(b"graph")
    card = {
        "task": "classify",
        "data": {"name": "mnist", "synthetic": False},
        "onnx": {
            "model.onnx": {
                "sha256": hashlib.sha256(b"graph").hexdigest(),
                "parity": {"inputs": 64, "max_abs": 2e-6, "max_rel": 1e-7},
            }
        },
    }
    (folder / "assets.extra" / "card.json").write_text(json.dumps(card))
    return folder


DETAIL = "classify, mnist, 1 graph as verified, parity 2e-06"


def test_a_whole_version_is_well(version: Path) -> None:
    [finding] = doctor.repository(version.parent.parent)
    assert (finding.what, finding.state, finding.detail) == ("model lenet5/1", "ok", DETAIL)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model.onnx", b"another graph", "has another checksum than when it was verified"),
        ("model.onnx", None, "model.onnx is missing"),
        ("assets.extra/card.json", b"{", "card.json: got no JSON"),
    ],
    ids=["changed", "missing", "torn-card"],
)
def test_a_version_that_is_not_whole_is_broken(version: Path, file: str, content: bytes | None, said: str) -> None:
    if content is None:
        (version / file).unlink()
    else:
        (version / file).write_bytes(content)
    [finding] = doctor.repository(version.parent.parent)
    assert finding.state == "broken"
    assert said in finding.detail
    assert "ladle train lenet5" in str(finding.repair)


@pytest.mark.parametrize(
    ("parity", "said"),
    [
        (None, "was never compared with TensorFlow, so it is not served"),
        ({"inputs": 64, "max_abs": 0.5, "max_rel": 0.1}, "differs from TensorFlow by 5.0e-01; expected at most 0.0001"),
    ],
    ids=["none", "far"],
)
def test_a_graph_whose_parity_is_in_doubt_is_noted(version: Path, parity: object, said: str) -> None:
    path = version / "assets.extra" / "card.json"
    card = json.loads(path.read_text())
    card["onnx"]["model.onnx"]["parity"] = parity
    path.write_text(json.dumps(card))
    [finding] = doctor.repository(version.parent.parent)
    assert (finding.state, finding.detail) == ("note", f"model.onnx {said}")
    assert finding.repair == f"ladle convert {version}"


def test_deep_runs_both_engines_on_what_the_version_came_with(version: Path) -> None:
    def missing(folder: Path) -> str:
        raise ModuleNotFoundError("no TensorFlow", name="tensorflow")

    def differing(folder: Path) -> str:
        raise doctor.GraphDiffersError("they differ")

    def failing(folder: Path) -> str:
        raise ValueError("it does not load")

    looked = {}
    for name, compare in (("agree", str), ("missing", missing), ("differ", differing), ("fail", failing)):
        _, finding = doctor.repository(version.parent.parent, compare)
        assert finding.what == "parity lenet5/1"
        looked[name] = (finding.state, finding.detail, finding.repair)
    assert looked == {
        "agree": ("ok", str(version), None),
        "missing": ("note", "not run: tensorflow is not installed", "pip install 'ladle[train]'"),
        "differ": ("broken", "they differ", "ladle train lenet5"),
        "fail": ("broken", "it does not load", None),
    }


@pytest.mark.parametrize("file", ["saved_model.pbtxt", "model.tflite"])
def test_a_version_in_another_form_that_servers_take_is_well(version: Path, file: str) -> None:
    for path in (version / "saved_model.pb", version / "model.onnx", version / "assets.extra" / "card.json"):
        path.unlink()
    (version / file).write_bytes(b"saved")
    [finding] = doctor.repository(version.parent.parent)
    assert finding.state == "ok"


def test_a_broken_version_is_exit_1_and_in_the_json(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (version / "model.onnx").unlink()
    assert doctor.main(["--repository", str(version.parent.parent), "--json"], data=lambda: {"mnist": True}) == 1
    found = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert found["model lenet5/1"]["state"] == "broken"
    assert found["data"]["detail"] == "available: mnist"
    assert found["python"]["state"] == "ok"


def test_an_empty_machine_gets_the_first_command(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        [finding] = doctor.repository(folder)
        assert finding.state == "note"
        assert finding.repair == "ladle train lenet5 --preset quick"


def test_the_probe_tells_a_model_server_from_something_else(server: object) -> None:
    assert doctor._is_model_server(int(server.grpc.rpartition(":")[2]))  # type: ignore[attr-defined]
    assert not doctor._is_model_server(int(server.rest.rpartition(":")[2]))  # type: ignore[attr-defined]


@pytest.mark.parametrize("content", ['{"data": "x"}', '{"onnx": []}', '{"onnx": {"model.onnx": 5}}', "[" * 200_000])
def test_a_wrong_card_is_told_of_its_own_version_alone(version: Path, content: str) -> None:
    other = version.parent.parent / "unet" / "1"
    (other / "assets.extra").mkdir(parents=True)
    (other / "saved_model.pb").write_bytes(b"saved")
    (version / "assets.extra" / "card.json").write_text(content)
    found = {finding.what: finding for finding in doctor.repository(version.parent.parent)}
    assert found["model lenet5/1"].state == "broken"
    assert found["model lenet5/1"].detail.startswith("card.json: ")
    assert "; expected" in found["model lenet5/1"].detail
    assert found["model unet/1"].state == "ok"


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which each connection is handled by `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = server.accept()[0]
                    with connection, contextlib.suppress(OSError):
                        connection.settimeout(10)
                        answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(30)


def test_the_doctor_tells_what_answers_on_a_port(tiny_server: Any, certificates: Path) -> None:
    """gRPC, REST, TLS with either HTTP, another protocol, silence, and nothing."""

    def over_tls(*offered: str) -> Callable[[socket.socket], None]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
        context.set_alpn_protocols(list(offered))
        return lambda connection: context.wrap_socket(connection, server_side=True).close()

    handlers: dict[str, Callable[[socket.socket], Any]] = {
        "tls http2": over_tls("h2"),
        "tls http1": over_tls("http/1.1"),
        "tls": over_tls("acme"),
        "other": lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n"),
        "silence": lambda connection: connection.recv(1),
    }
    found = {
        "http2": find_protocol("127.0.0.1", tiny_server.grpc_port),
        "http1": find_protocol("127.0.0.1", tiny_server.rest_port),
    }
    for name, handler in handlers.items():
        with listening(handler) as port:
            found[name] = find_protocol("127.0.0.1", port)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # does not listen
        found["nothing"] = find_protocol("127.0.0.1", free.getsockname()[1])
    assert found == {name: name for name in found}


def test_the_doctor_says_when_a_port_has_another_program_than_it_should(tiny_server: Any) -> None:
    use_grpc, use_rest, use_page = doctor.PORTS.values()
    looked: dict[str, tuple[str, str]] = {}
    for name, port, use in (
        ("gRPC on its port", tiny_server.grpc_port, use_grpc),
        ("REST on its port", tiny_server.rest_port, use_rest),
        ("REST on gRPC's", tiny_server.rest_port, use_grpc),
        ("gRPC on REST's", tiny_server.grpc_port, use_rest),
        ("REST on the page's", tiny_server.rest_port, use_page),
    ):
        [finding] = doctor.ports({port: use})
        looked[name] = finding.state, finding.detail
    assert looked == {
        "gRPC on its port": ("ok", "HTTP/2 without TLS answers (model server, gRPC)"),
        "REST on its port": ("ok", "HTTP/1 answers (model server, REST)"),
        "REST on gRPC's": ("broken", "HTTP/1 answers; expected HTTP/2 without TLS (model server, gRPC)"),
        "gRPC on REST's": ("broken", "HTTP/2 without TLS answers; expected HTTP/1 (model server, REST)"),
        "REST on the page's": ("broken", "HTTP/1 answers, but not the page"),
    }


def test_a_package_that_is_installed_and_broken_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    def look() -> str:
        raise ImportError("libcudart.so.12: cannot open shared object file")

    assert doctor.main(["--json"], device=look) == 1
    [found] = [each for each in json.loads(capsys.readouterr().out) if each["what"] == "device"]
    assert (found["state"], found["detail"]) == ("broken", "libcudart.so.12: cannot open shared object file")


@pytest.mark.parametrize(("is_compiled", "state"), [(True, "ok"), (False, "note")])
def test_a_server_without_compiled_code_is_told_what_to_install(
    is_compiled: bool, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    doctor.main(["--json"], compiled=lambda: is_compiled)
    [found] = [each for each in json.loads(capsys.readouterr().out) if each["what"] == "numbers in JSON"]
    assert found["state"] == state
    assert (found["repair"] is None) == is_compiled
