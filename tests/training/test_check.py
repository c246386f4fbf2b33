"""What TensorFlow Serving needs of a SavedModel: operations of its own, and signatures that run without Keras."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tensorflow.core.protobuf import meta_graph_pb2

from training import _servable

ROOT = Path(__file__).resolve().parents[2]


def graph(*operations: str) -> meta_graph_pb2.MetaGraphDef:
    """A graph that calls a function with these operations."""
    made = meta_graph_pb2.MetaGraphDef()
    made.graph_def.node.add(name="x", op="Placeholder")
    made.graph_def.node.add(name="y", op="__inference_f_1")
    function = made.graph_def.library.function.add()
    function.signature.name = "__inference_f_1"
    for operation in operations:
        function.node_def.add(name=operation, op=operation)
    return made


def test_operations_within_functions_are_found_and_functions_are_none() -> None:
    found = _servable.operations(graph("MatMul", "DecodeImage"))
    assert found.operations == ("DecodeImage", "MatMul", "Placeholder")
    assert found.cpu_alone == ("DecodeImage",)
    assert found.faults == []


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        ("SentencepieceOp", "is not TensorFlow's own"),
        ("EagerPyFunc", "calls Python, which a server does not have"),
        ("CudnnRNNV3", "runs on a GPU alone"),
    ],
)
def test_an_operation_that_a_server_cannot_run_is_named(operation: str, why: str) -> None:
    assert _servable.operations(graph("MatMul", operation)).faults == [f"the operation {operation} {why}"]


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training.check", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_every_signature_runs_where_keras_cannot_be_imported(zoo: Path) -> None:
    done = check(zoo, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {f"{model.name}/1" for model in zoo.iterdir()}
    for name, version in found.items():
        card = json.loads((zoo / name / "assets.extra" / "card.json").read_text())
        assert version["signatures"] == len(card["signatures"]), name
        assert not version["faults"], name


@pytest.mark.slow
def test_a_version_without_its_variables_cannot_be_served(zoo: Path, tmp_path: Path) -> None:
    version = tmp_path / "lenet5" / "1"
    (version / "assets.extra").mkdir(parents=True)
    (version / "saved_model.pb").write_bytes((zoo / "lenet5" / "1" / "saved_model.pb").read_bytes())
    done = check(tmp_path)
    assert done.returncode == 1
    assert "lenet5 version 1: cannot be served" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_folder_without_versions_is_said(tmp_path: Path) -> None:
    done = check(tmp_path)
    assert (done.returncode, done.stderr) == (1, f"check: {tmp_path} holds no <name>/<version>/saved_model.pb\n")
