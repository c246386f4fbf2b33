"""Nothing leaves the process: ONNX Runtime's telemetry is off before it is imported, wherever it is imported."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ladle.command import GROUPS, VERBS
from tests.watching import can_trace, watch

ROOT = Path(__file__).resolve().parent.parent
TRIVIAL_SESSION = """
import sys
from importlib import import_module
import_module(sys.argv[1])
import onnxruntime
from onnx import TensorProto, helper
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy")
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
"""


def environment(home: Path) -> dict[str, str]:
    """This process's environment with another home and without a word about telemetry."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    return {**kept, "HOME": str(home)}


def traces(home: Path) -> list[Path]:
    """What ONNX Runtime's telemetry leaves: a device id and a database."""
    return [path for path in home.rglob("*") if "onnxruntime" in path.name or path.name == "deviceid"]


@pytest.mark.parametrize(
    "module",
    ["ladle.serving.server", "ladle.serving.servables.engines.compare", "ladle.training.onnx.convert", "benchmarks"],
)
def test_no_room_lets_onnx_runtime_keep_a_device_id(module: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", TRIVIAL_SESSION, module]
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert traces(tmp_path) == []


@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_a_server_that_answers_keeps_no_device_id(
    serve: Any, tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    for name in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    server = serve(f"--repository={tiny_repository}", f"--workers={workers}", models=["half_plus_two"])
    body = b'{"instances": [[1.0]]}'
    assert server.send("POST", "/v1/models/half_plus_two:predict", body)[0] == 200
    server.stop()
    assert traces(tmp_path) == []


def importers() -> Iterator[Path]:
    """Our files that import ONNX Runtime, at once or late."""
    for room in ("serving", "training", "clients", "models", "benchmarks", "tools"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
                if any(name.split(".")[0] == "onnxruntime" for name in names):
                    yield path


def test_whoever_imports_onnx_runtime_lies_in_a_package_that_turns_telemetry_off() -> None:
    found = set(importers())
    assert found
    for path in found:
        room = ROOT / path.relative_to(ROOT).parts[0]
        assert 'os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")' in (room / "__init__.py").read_text(), path


SERVE_AND_ASK = """
import http.client, json, os, socket, subprocess, sys, time
from ladle.command import main

repository, workers, *models = sys.argv[1:]
ports = []
for _ in range(3):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        ports.append(probe.getsockname()[1])
grpc_port, rest_port, page_port = ports


def ask(port, path, body=None):
    deadline = time.monotonic() + 120
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("POST" if body else "GET", path, json.dumps(body) if body else None)
            answer = connection.getresponse()
            if answer.status == 200:
                return answer.read()
        except OSError:
            pass
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


addresses = f"--port={grpc_port}", f"--rest_api_port={rest_port}", "--host=127.0.0.1"
options = f"--repository={repository}", f"--workers={workers}", "--enable_metrics"
server = subprocess.Popen([sys.executable, "-m", "ladle.serving", *addresses, *options])
where = f"grpc://127.0.0.1:{grpc_port}", f"http://127.0.0.1:{rest_port}"
page = ["--port", str(page_port), "--server", where[0], "--rest", where[1], "--repository", repository]
gateway = subprocess.Popen([sys.executable, "-m", "ladle", "gateway", *page])
try:
    ask(rest_port, "/v2/health/ready")
    ask(rest_port, "/v1/models/half_plus_two:predict", {"instances": [[1.0]]})
    ask(rest_port, "/monitoring/prometheus/metrics")
    ask(page_port, "/readyz")
    ask(page_port, "/api/v1/models")
    ask(page_port, "/")
    for address in where:
        os.environ["LADLE_ADDRESS"] = address
        assert main(["status"]) == 0
        assert main(["metadata", "half_plus_two"]) == 0
        assert main(["predict", "half_plus_two", "--input", "x=[[1]]"]) == 0
        assert main(["bench", "half_plus_two", "--seconds", "0.2", "--warm-up", "0.1", "--connections", "2"]) == 0
    main(["doctor", "--repository", repository])
    assert main(["networks"]) == 0
    assert main(["data", "list"]) == 0
    assert main(["completion", "bash"]) == 0
    assert main(["config", "--repository", repository]) == 0
finally:
    for process in (gateway, server):
        process.terminate()
        process.wait(60)
print("asked everything")
"""


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)], ids=["one process", "two workers"])
def test_serving_and_asking_looks_nothing_up(tiny_repository: Path, tmp_path: Path, workers: int) -> None:
    repository = tmp_path / "models"
    shutil.copytree(tiny_repository, repository)
    seen = watch(tmp_path, sys.executable, "-c", SERVE_AND_ASK, repository, str(workers), cwd=ROOT)
    assert "asked everything" in seen.said, seen.said
    assert seen.calls > 20
    assert seen.hosts == set()
    assert seen.files == []


TRAIN = """
set -e
python=$1 models=$2/models runs=$2/runs
$python -m ladle train linear_regression --preset quick --epochs 2 --repository $models --runs $runs
$python -m ladle evaluate linear_regression --repository $models
$python -m ladle export linear_regression --repository $models --runs $runs
$python -m ladle convert $models/linear_regression/1
$python -m ladle optimize linear_regression --repository $models || test $? = 1  # 1: nothing is faster
$python -m ladle report linear_regression --repository $models
$python -m ladle.training.check $models
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_training_and_exporting_looks_nothing_up(tmp_path: Path) -> None:
    seen = watch(tmp_path, "bash", "-c", TRAIN, "bash", sys.executable, tmp_path, cwd=ROOT)
    assert seen.code == 0, seen.said
    assert seen.hosts == set()
    assert [file for file in seen.files if "matplotlib" not in file and ".keras/keras.json" not in file] == []


def test_every_verb_is_watched() -> None:
    """`demo` runs others of these; the verbs that ask, and `replay`, go through the same transports as `predict`."""
    watched = {verb for verb in VERBS if f'["{verb}"' in SERVE_AND_ASK or f"ladle {verb} " in TRAIN}
    assert set(VERBS) - watched - set(GROUPS["ask"]) == {"serve", "gateway", "demo", "replay"}
    assert "ladle.serving" in SERVE_AND_ASK
    assert '"gateway"' in SERVE_AND_ASK


def test_the_watch_sees_who_asks_another_host(tmp_path: Path) -> None:
    """224.0.0.1 is a network's address, so the system refuses at once to connect to it."""
    asks = "import socket\ntry: socket.create_connection(('224.0.0.1', 9))\nexcept OSError: open('left', 'w')"
    script = f'"$0" -c "{asks}"; exec 3<>/dev/tcp/224.0.0.2/9'
    seen = watch(tmp_path, "bash", "-c", f"cd; {script}", sys.executable, cwd=ROOT)
    assert seen.hosts == ({"224.0.0.1", "224.0.0.2"} if can_trace() else {"224.0.0.1"})
    assert seen.files == ["left"]
