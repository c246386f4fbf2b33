"""--prefer_tflite_model: a version's model.tflite is served, on TensorFlow's interpreter."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle.serving.errors import FailedPrecondition
from ladle.serving.servables.engines.choose import EngineOptions, open_version


def make(bare: Path, named: Path) -> None:
    """Writes a model.tflite without metadata to the folder `bare`, and one with a signature to `named`."""
    import flatbuffers
    import tensorflow as tf
    from flatbuffers import flexbuffers
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow.lite.python import schema_py_generated as schema

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
        def predict(self, x):
            return {"y": x * 0.5 + 2.0}

    function = Model().predict.get_concrete_function()
    content = tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()
    details = tf.lite.Interpreter(model_content=content)
    signature = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    for infos, alias, found in (
        (signature.inputs, "in", details.get_input_details()),
        (signature.outputs, "out", details.get_output_details()),
    ):
        infos[alias].name, infos[alias].dtype = found[0]["name"].removesuffix(":0"), 1
    held = flexbuffers.Builder()
    with held.Map():
        held.Key("serving_default")
        held.String(signature.SerializeToString().decode())
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    buffer, metadata = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(bytes(held.Finish()), np.uint8)
    model.buffers.append(buffer)
    metadata.name, metadata.buffer = "signature_defs_metadata", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), metadata]
    packed = flatbuffers.Builder(1024)
    packed.Finish(model.Pack(packed), b"TFL3")
    for folder, data in ((bare, content), (named, bytes(packed.Output()))):
        folder.mkdir(parents=True)
        (folder / "model.tflite").write_bytes(data)


@pytest.fixture(scope="module")
def server(serve: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tflite")
    make(folder / "bare" / "1", folder / "named" / "1")
    tiny.half_plus(1).write(folder / "graph", 1)
    (folder / "broken" / "1").mkdir(parents=True)
    (folder / "broken" / "1" / "model.tflite").write_bytes(b"no model")
    return serve("--repository", folder, "--prefer_tflite_model", models=["bare", "graph", "named"])


def test_signatures_come_from_the_files_metadata(server: Any, grpc_to: Any) -> None:
    ask = grpc_to(server)
    assert list(ask.metadata("named")["inputs"]["serving_default"]) == ["in"]
    for shape in ((2, 1), (3,), (), (2, 2), (0, 1)):
        x = np.ones(shape, np.float32)
        assert ask.predict("named", {"in": x}) == {"out": np.full(shape, 2.5).tolist()}
    status, body = server.send("POST", "/v1/models/named:predict", b'{"instances": [[1.0], [3.0]]}')
    assert (status, json.loads(body)) == (200, {"predictions": [[2.5], [3.5]]})


def test_without_metadata_the_aliases_are_the_names_of_the_tensors(server: Any, grpc_to: Any) -> None:
    ask = grpc_to(server)
    ((alias, (dtype, shape, name)),) = ask.metadata("bare")["inputs"]["serving_default"].items()
    assert (dtype, shape, name.removesuffix(":0")) == ("DT_FLOAT", [-1, 1], alias)
    (answer,) = ask.predict("bare", {alias: np.ones((1, 1), np.float32)}).values()
    assert answer == [[2.5]]


def test_a_version_without_the_file_runs_on_onnx_runtime(server: Any, grpc_to: Any) -> None:
    assert grpc_to(server).predict("graph", {"x": np.ones((1, 1), np.float32)}) == {"y": [[1.5]]}


def test_a_damaged_file_fails_only_its_version(server: Any) -> None:
    server.wait_for_state("broken", 1, "END")
    status = server.get("/v1/models/broken")[1].decode()
    assert "the version's model.tflite cannot be read; convert the model again" in status


def test_without_tensorflow_the_status_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.tflite").write_bytes(b"any")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FailedPrecondition, match="install TensorFlow, or start the server without the flag"):
        open_version(tmp_path, EngineOptions(tflite_interpreters=1))
