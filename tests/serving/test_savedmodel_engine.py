"""A SavedModel without a graph is served on TensorFlow, as it is."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MAKE = """
import sys, tensorflow as tf

class Model(tf.Module):
    def __init__(self):
        self.half = tf.Variable(0.5)
        self.words = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b"]), tf.constant([1, 2], tf.int64)), -1)

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
    def predict(self, x):
        return {"y": x * self.half + 2.0, "same": tf.identity(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
    def look_up(self, word):
        return {"id": self.words.lookup(word), "upper_bytes": tf.strings.upper(word)}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="a"),
                                  tf.TensorSpec([2, None], tf.float32, name="b")])
    def product(self, a, b):
        return {"c": tf.linalg.matmul(a, b)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.bfloat16, name="x")])
    def half_as_wide(self, x):
        return {"y": x + tf.constant(1, tf.bfloat16)}

model = Model()
tf.saved_model.save(model, sys.argv[1], signatures={
    "serving_default": model.predict, "look_up": model.look_up, "product": model.product, "wide": model.half_as_wide})

graph = tf.Graph()
with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
    x = tf.compat.v1.placeholder(tf.float32, [None], name="x")
    v = tf.compat.v1.get_variable("v", initializer=3.0)
    y = tf.multiply(x, v, name="y")
    session.run(tf.compat.v1.global_variables_initializer())
    tf.compat.v1.saved_model.simple_save(session, sys.argv[2], {"x": x}, {"y": y})
"""


@pytest.fixture(scope="module")
def server(serve: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Serves a SavedModel of TensorFlow 2, one of TensorFlow 1, and ONNX beside them."""
    folder = tmp_path_factory.mktemp("savedmodels")
    command = [sys.executable, "-c", MAKE, folder / "two" / "1", folder / "one" / "1"]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    tiny.half_plus(1).write(folder / "graph", 1)
    shutil.copytree(folder / "two", folder / "mixed")
    graph_for_one_signature(folder / "mixed" / "1", tiny)
    return serve("--repository", folder, models=["graph", "mixed", "one", "two"])


def graph_for_one_signature(folder: Path, tiny: Any) -> None:
    """Gives serving_default of a SavedModel a graph that adds 7 in place of 2, so that its answers tell it apart."""
    from onnx import helper

    x, y = {"x": ("float32", [-1, 1])}, {"y": ("float32", [-1, 1]), "same": ("float32", [-1, 1])}
    nodes = [helper.make_node("Add", ["x", "seven"], ["y"]), helper.make_node("Identity", ["x"], ["same"])]
    data = tiny.onnx_model(nodes, x, y, {"seven": np.float32(7)}).SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    verified = {"sha256": hashlib.sha256(data).hexdigest(), "parity": {"inputs": 64, "max_abs": 0.0}}
    card = {"signatures": {"serving_default": {"graph": "model.onnx"}}, "onnx": {"model.onnx": verified}}
    (folder / "assets.extra").mkdir(exist_ok=True)
    (folder / "assets.extra" / "card.json").write_text(json.dumps(card))


def test_a_signature_without_graph_runs_on_tensorflow_beside_one_with(server: Any, grpc_to: Any) -> None:
    ask = grpc_to(server)
    x = np.array([[1.0]], np.float32)
    assert ask.predict("mixed", {"x": x}) == {"y": [[8.0]], "same": [[1.0]]}
    assert ask.predict("mixed", {"word": np.array([b"a"], object)}, "look_up") == {"id": [1], "upper_bytes": [b"A"]}


def test_a_savedmodel_without_graph_runs_on_tensorflow(server: Any, grpc_to: Any) -> None:
    ask = grpc_to(server)
    x = np.array([[1.0], [3.0]], np.float32)
    assert ask.predict("two", {"x": x}) == {"y": [[2.5], [3.5]], "same": x.tolist()}
    assert ask.predict("graph", {"x": x}) == {"y": [[1.5], [2.5]]}
    words = np.array([b"b", b"\xff"], object)
    assert ask.predict("two", {"word": words}, "look_up") == {"id": [2, -1], "upper_bytes": [b"B", b"\xff"]}
    assert "two version 1: TensorFlow" in server.log.read_text()


def test_a_savedmodel_of_tensorflow_1_runs_too(server: Any, grpc_to: Any) -> None:
    assert grpc_to(server).predict("one", {"x": np.array([2.0], np.float32)}) == {"y": [6.0]}


def test_shapes_are_checked_by_the_graph_alone(server: Any, grpc_to: Any) -> None:
    ask = grpc_to(server)
    for x in (np.float32(1), np.ones(3, np.float32), np.ones((2, 2), np.float32)):
        assert ask.predict("two", {"x": x})["y"] == (np.asarray(x) * 0.5 + 2).tolist()


def test_bfloat16_goes_in_and_out(server: Any, grpc_to: Any) -> None:
    from clients.wire import messages as pb
    from clients.wire import tensors

    ask = grpc_to(server)
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="two", signature_name="wide"))
    bits = np.array([(0x3F80,), (0xC000,)], tensors.BFLOAT16)  # 1 and -2
    tensors.fill(request.inputs["x"], bits)
    answer = tensors.to_array(ask.prediction.Predict(request, timeout=30).outputs["y"])
    assert tensors.widen(answer).tolist() == [2.0, -1.0]


def test_errors_of_operations_keep_their_code_and_lose_their_nodes(server: Any, grpc_to: Any, refused: Any) -> None:
    with pytest.raises(refused) as caught:
        grpc_to(server).predict("two", {"a": np.ones((1, 3), np.float32), "b": np.ones((2, 2), np.float32)}, "product")
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.message.startswith("Matrix size-incompatible: In[0]: [1,3], In[1]: [2,2]")
    assert "{{" not in caught.value.message


def test_rest_answers_from_tensorflow_as_well(server: Any) -> None:
    body = json.dumps({"signature_name": "look_up", "instances": ["a", "c"]}).encode()
    status, answer = server.send("POST", "/v1/models/two:predict", body)
    assert (status, json.loads(answer)) == (
        200,
        {"predictions": [{"id": 1, "upper_bytes": {"b64": "QQ=="}}, {"id": -1, "upper_bytes": {"b64": "Qw=="}}]},
    )


def test_metadata_lists_every_signature_of_the_metagraph(server: Any, grpc_to: Any) -> None:
    assert "__saved_model_init_op" in grpc_to(server).metadata("two")["inputs"]


def test_a_damaged_savedmodel_fails_alone(server: Any, tmp_path: Path, grpc_to: Any) -> None:
    repository = next(Path(part) for part in server.process.args if "savedmodels" in part)
    folder = repository / "broken" / ".writing"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes((repository / "two" / "1" / "saved_model.pb").read_bytes())
    folder.rename(repository / "broken" / "1")
    server.wait_for_state("broken", 1, "END")
    status = grpc_to(server).status("broken")[1]
    assert status[1:] == ("DATA_LOSS", "the SavedModel cannot be restored: files are missing or damaged")
    assert grpc_to(server).predict("one", {"x": np.array([2.0], np.float32)}) == {"y": [6.0]}
