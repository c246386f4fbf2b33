"""What TensorFlow Serving needs of a SavedModel: operations of its own, and signatures that run without Keras."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from ladle.training.export import tfserving_check

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


def test_operations_within_functions_are_found_and_functions_are_not_counted() -> None:
    found = tfserving_check.operations(graph("MatMul", "DecodeImage"))
    assert found.operations == ("DecodeImage", "MatMul", "Placeholder")
    assert found.cpu_only == ("DecodeImage",)
    assert found.faults == []


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        ("SentencepieceOp", "is not TensorFlow's own"),
        ("EagerPyFunc", "calls Python, which a server does not have"),
        ("CudnnRNNV3", "runs only on a GPU"),
    ],
)
def test_an_operation_that_a_server_cannot_run_is_named(operation: str, why: str) -> None:
    assert tfserving_check.operations(graph("MatMul", operation)).faults == [f"the operation {operation} {why}"]


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ladle.training.check", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.deploy
def test_every_signature_runs_where_keras_cannot_be_imported(zoo: Path) -> None:
    done = check(zoo, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {f"{model.name}/1" for model in zoo.iterdir()}
    for name, version in found.items():
        card = json.loads((zoo / name / "assets.extra" / "card.json").read_text())
        assert version["signatures"] == len(card["signatures"]), name
        assert not version["faults"], name


@pytest.mark.deploy
def test_models_trained_here_can_be_served() -> None:
    repository = ROOT / "model_repository"
    if not any(repository.glob("*/*/saved_model.pb")):
        pytest.skip("model_repository holds no model: `make demo` trains six")
    done = check(repository)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_each_version_that_cannot_be_served_has_its_reason(tmp_path: Path) -> None:
    (tmp_path / "damaged" / "1").mkdir(parents=True)
    (tmp_path / "damaged" / "1" / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    saved = saved_model_pb2.SavedModel()
    saved.meta_graphs.add(meta_info_def={"tags": ["serve"], "tensorflow_version": "2.21.0"}).graph_def.node.add(
        name="x", op="My"
    )
    (tmp_path / "strange" / "2").mkdir(parents=True)
    (tmp_path / "strange" / "2" / "saved_model.pb").write_bytes(saved.SerializeToString())
    saved.meta_graphs[0].graph_def.node[0].op = "NoOp"
    (tmp_path / "silent" / "1").mkdir(parents=True)
    (tmp_path / "silent" / "1" / "saved_model.pb").write_bytes(saved.SerializeToString())
    done = check(tmp_path)
    assert done.returncode == 1
    said = [line.partition(";")[0] for line in done.stdout.splitlines()]
    assert said[0] == "damaged version 1: cannot be served"
    assert said[1].startswith("  saved_model.pb cannot be read: ")
    assert said[2] == "silent version 1: loads, nothing run: it has no signatures"
    assert said[3:] == ["strange version 2: cannot be served", "  the operation My is not TensorFlow's own"]
    assert done.stderr == ""
    empty = check(tmp_path / "damaged")
    folder = tmp_path / "damaged"
    assert (empty.returncode, empty.stderr) == (1, f"check: {folder} holds no <name>/<version>/saved_model.pb\n")
