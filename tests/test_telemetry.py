"""Nothing leaves the process: ONNX Runtime's telemetry is off before it is imported, wherever it is imported."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
