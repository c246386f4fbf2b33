"""A SavedModel without a graph is served on TensorFlow, as it is."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.serving.errors import NotFound
from ladle.serving.servables.saved_model import read_signature_defs

ROOT = Path(__file__).resolve().parents[4]


def beside(home: Path) -> Path:
    """Where the model is that cannot be served, until a test moves it into the repository."""
    return home.with_name(f"{home.name}-python")


def make(home: Path) -> None:
    """Writes SavedModels: those of TensorFlow 2 are `two` and `examples2`."""
    import tensorflow as tf

    names = ("two", "one", "examples", "same", "text_file", "examples2")
    folders = {name: str(home / name / "1") for name in names}

    class Model(tf.Module):
        def __init__(self):
            self.half = tf.Variable(0.5)
            self.words = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b"]), tf.constant([1, 2], tf.int64)), -1
            )

        @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
        def predict(self, x):
            return {"y": x * self.half + 2.0, "same": tf.identity(x)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
        def look_up(self, word):
            return {"id": self.words.lookup(word), "upper_bytes": tf.strings.upper(word)}

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 2], tf.float32, name="a"),
                tf.TensorSpec([2, None], tf.float32, name="b"),
            ]
        )
        def product(self, a, b):
            return {"c": tf.linalg.matmul(a, b)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.bfloat16, name="x")])
        def half_as_wide(self, x):
            return {"y": x + tf.constant(1, tf.bfloat16)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def words_of(self, text):
            return {"words": tf.strings.split(text), "texts": tf.size(text)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def python(self, x):
            return {"y": tf.numpy_function(lambda x: x + 1, [x], tf.float32)}

    model = Model()
    tf.saved_model.save(
        model,
        folders["two"],
        signatures={
            "serving_default": model.predict,
            "look_up": model.look_up,
            "product": model.product,
            "wide": model.half_as_wide,
            "words_of": model.words_of,
            "python": model.python,
        },
    )
    tf.saved_model.save(model, str(beside(home) / "1"), signatures={"serving_default": model.python})

    class Examples(tf.Module):
        # Two signatures that read tf.Examples, each a function, so each has a placeholder of its own.

        def number(self, inputs):
            return tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def double(self, inputs):
            return {"outputs": self.number(inputs) * 2.0}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def triple(self, inputs):
            return {"scores": self.number(inputs) * 3.0}

    examples = Examples()
    tf.saved_model.save(
        examples, folders["examples2"], signatures={"double": examples.double, "triple": examples.triple}
    )

    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        x = tf.compat.v1.placeholder(tf.float32, [None], name="x")
        v = tf.compat.v1.get_variable("v", initializer=3.0)
        y = tf.multiply(x, v, name="y")
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, folders["one"], {"x": x}, {"y": y})
        tf.compat.v1.saved_model.simple_save(session, folders["same"], {"x": x}, {"y": y, "same": x})
        text = tf.compat.v1.saved_model.builder.SavedModelBuilder(folders["text_file"])
        predict = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        text.add_meta_graph_and_variables(session, ["serve"], {"serving_default": predict})
        text.save(as_text=True)

    v1, sm = tf.compat.v1, tf.compat.v1.saved_model
    with tf.Graph().as_default(), v1.Session() as session:
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        found = v1.parse_example(
            examples,
            {
                "x": v1.FixedLenFeature([1], tf.float32),
                "x2": v1.FixedLenFeature([1], tf.float32, default_value=[0.0]),
                "n": v1.FixedLenFeature([2], tf.int64, default_value=[7, 8]),
                "word": v1.FixedLenFeature([], tf.string, default_value="none"),
            },
        )
        half, two = v1.get_variable("half", initializer=0.5), v1.get_variable("two", initializer=2.0)
        y = tf.add(tf.multiply(found["x"], half), two)
        words = tf.stack([found["word"], tf.strings.as_string(found["n"][:, 0])], 1)
        scores = tf.concat([y, found["x2"]], 1)
        definitions = {
            "serving_default": sm.regression_signature_def(examples, y),
            "regress_x2": sm.regression_signature_def(examples, found["x2"] + 3.0),
            "classify": sm.classification_signature_def(examples, words, scores),
            "predict": sm.predict_signature_def({"x": found["x"]}, {"y": y}),
        }
        session.run(v1.global_variables_initializer())
        builder = sm.builder.SavedModelBuilder(folders["examples"])
        builder.add_meta_graph_and_variables(session, ["serve"], definitions)
        builder.save()


@pytest.fixture(scope="module")
def server(serve: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Serves a SavedModel of TensorFlow 2, one of TensorFlow 1, and ONNX beside them."""
    folder = tmp_path_factory.mktemp("savedmodels")
    make(folder)
    tiny.half_plus(1).write(folder / "graph", 1)
    shutil.copytree(folder / "two", folder / "mixed")
    graph_for_one_signature(folder / "mixed" / "1", tiny)
    packages = tmp_path_factory.mktemp("packages")
    # In place of the real package: it can be imported, and lacks the operations.
    (packages / "tensorflow_text.py").write_text("print('tensorflow_text was imported', flush=True)")
    path = {"PYTHONPATH": f"{packages}{os.pathsep}{ROOT}"}
    models = ["examples", "examples2", "graph", "mixed", "one", "same", "text_file", "two"]
    return serve("--repository", folder, env=path, models=models)


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


def test_the_engine_can_be_tensorflow_for_every_signature(server: Any, serve: Any, grpc_to: Any) -> None:
    repository = next(Path(part) for part in server.process.args if "savedmodels" in part)
    flags = ("--model_name=mixed", f"--model_base_path={repository / 'mixed'}", "--engine=tensorflow")
    ask = grpc_to(serve(*flags, "--tensorflow_session_parallelism=1", models=["mixed"]))
    assert ask.predict("mixed", {"x": np.array([[1.0]], np.float32)}) == {"y": [[2.5]], "same": [[1.0]]}


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


def test_a_savedmodel_in_text_form_runs_too(server: Any, grpc_to: Any) -> None:
    repository = next(Path(part) for part in server.process.args if "savedmodels" in part)
    assert (repository / "text_file" / "1" / "saved_model.pbtxt").is_file()
    assert grpc_to(server).predict("text_file", {"x": np.array([2.0], np.float32)}) == {"y": [6.0]}
    assert grpc_to(server).metadata("text_file")["inputs"] == {"serving_default": {"x": ("DT_FLOAT", [-1], "x:0")}}
    damaged = repository / "damaged_text" / ".writing"
    damaged.mkdir(parents=True)
    (damaged / "saved_model.pbtxt").write_text("meta_graphs {")
    damaged.rename(repository / "damaged_text" / "1")
    server.wait_for_state("damaged_text", 1, "END")
    message = "the version's saved_model.pbtxt is damaged; export it again"
    assert grpc_to(server).status("damaged_text")[1][1:] == ("DATA_LOSS", message)


def example(**features: Any) -> Any:
    made = pb.Example()
    for name, values in features.items():
        held = values if isinstance(values, list) else [values]
        kind = {float: "float_list", int: "int64_list", bytes: "bytes_list"}[type(held[0])]
        getattr(made.features.feature[name], kind).value.extend(held)
    return made


def multi_inference(*tasks: tuple[str, str, str], examples: Any = (), context: Any = None) -> Any:
    request = pb.MultiInferenceRequest()
    for model, signature, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = model, signature
    if context is not None:
        request.input.example_list_with_context.examples.extend(examples)
        request.input.example_list_with_context.context.CopyFrom(context)
    elif examples:
        request.input.example_list.examples.extend(examples)
    return request


def test_signatures_of_tensorflow_1_classify_and_regress(server: Any, grpc_to: Any) -> None:
    ask = grpc_to(server)
    rows = [{"x": [2.0]}, {"x": [4.0], "x2": [1.0], "word": [b"cat"], "n": [5, 6]}]
    assert ask.regress("examples", rows, "") == [3.0, 4.0]
    assert ask.regress("examples", rows, "regress_x2") == [3.0, 4.0]
    assert ask.classify("examples", rows, "classify") == [
        [["none", 3.0], ["7", 0.0]],
        [["cat", 4.0], ["5", 1.0]],
    ]
    assert ask.predict("examples", {"x": np.ones((1, 1), np.float32)}, "predict") == {"y": [[2.5]]}


def test_the_context_is_merged_into_each_example_which_wins(server: Any, grpc_to: Any) -> None:
    request = pb.RegressionRequest(model_spec=pb.ModelSpec(name="examples"))
    held = request.input.example_list_with_context
    held.context.CopyFrom(example(x=6.0, x2=9.0))
    held.examples.extend([example(word=b"own"), example(x=2.0)])
    answer = grpc_to(server).prediction.Regress(request, timeout=30)
    assert [r.value for r in answer.result.regressions] == [5.0, 3.0]


def test_multi_inference_answers_each_task_in_order(server: Any, grpc_to: Any) -> None:
    request = multi_inference(
        ("examples", "regress_x2", "regress"),
        ("examples", "classify", "classify"),
        ("examples", "", "regress"),
        examples=[example(x=2.0), example(x=4.0, x2=1.0)],
    )
    results = grpc_to(server).prediction.MultiInference(request, timeout=30).results
    assert [r.model_spec.signature_name for r in results] == ["regress_x2", "classify", "serving_default"]
    assert {(r.model_spec.name, r.model_spec.version.value) for r in results} == {("examples", 1)}
    assert [r.value for r in results[0].regression_result.regressions] == [3.0, 4.0]
    assert [r.value for r in results[2].regression_result.regressions] == [3.0, 4.0]
    classes = results[1].classification_result.classifications[1].classes
    assert [(c.label, c.score) for c in classes] == [("none", 4.0), ("7", 1.0)]


def test_multi_inference_of_tensorflow_2_feeds_the_examples_to_each_signature(server: Any, grpc_to: Any) -> None:
    tasks = [("examples2", "triple", "classify"), ("examples2", "double", "regress")]
    request = multi_inference(*tasks, examples=[example(x=2.0), example(x=5.0)])
    triple, double = grpc_to(server).prediction.MultiInference(request, timeout=30).results
    assert [[c.score for c in row.classes] for row in triple.classification_result.classifications] == [[6.0], [15.0]]
    assert [r.value for r in double.regression_result.regressions] == [4.0, 10.0]
    with pytest.raises(grpc.RpcError) as caught:  # neither graph can read it; one error is the answer
        grpc_to(server).prediction.MultiInference(multi_inference(*tasks, examples=[example(y=1.0)]), timeout=30)
    assert caught.value.code().name == "INVALID_ARGUMENT"
    assert "Feature: x" in caught.value.details()


ONE = [("examples", "", "regress")]
MULTI_REFUSALS = {
    "no task": ([], "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    "first without name": ([("", "", "regress")], "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    "later without name": (
        [*ONE, ("", "x", "regress")],
        "INVALID_ARGUMENT",
        "Found ModelSpec with an empty model name.",
    ),
    "unknown model": ([("nope", "", "regress")], "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    "two models": (
        [*ONE, ("two", "x", "regress")],
        "INVALID_ARGUMENT",
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    ),
    "twice": (
        [*ONE, ("examples", "serving_default", "regress")],
        "INVALID_ARGUMENT",
        "Duplicate evaluation of signature: serving_default",
    ),
    "unknown signature": (
        [("examples", "none", "regress")],
        "INVALID_ARGUMENT",
        "Requested signature not found in model graph: none",
    ),
    "method": (
        [("examples", "", "predict")],
        "UNIMPLEMENTED",
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
    "signature of another kind": (
        [("examples", "", "classify")],
        "INVALID_ARGUMENT",
        'Expected classification signature outputs to contain at least one of "classes" or "scores". '
        "Signature was: serving_default",
    ),
    "no examples": (ONE, "INVALID_ARGUMENT", "Input is empty."),
}


@pytest.mark.parametrize(("tasks", "code", "message"), MULTI_REFUSALS.values(), ids=MULTI_REFUSALS)
def test_multi_inference_refuses(server: Any, grpc_to: Any, tasks: Any, code: str, message: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        grpc_to(server).prediction.MultiInference(multi_inference(*tasks), timeout=30)
    assert caught.value.code().name == code
    assert caught.value.details() == message


def test_only_the_graph_checks_shapes(server: Any, grpc_to: Any) -> None:
    ask = grpc_to(server)
    for x in (np.float32(1), np.ones(3, np.float32), np.ones((2, 2), np.float32)):
        assert ask.predict("two", {"x": x})["y"] == (np.asarray(x) * 0.5 + 2).tolist()


def test_bfloat16_goes_in_and_out(server: Any, grpc_to: Any) -> None:
    ask = grpc_to(server)
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="two", signature_name="wide"))
    bits = np.array([(0x3F80,), (0xC000,)], tensors.BFLOAT16)  # 1 and -2
    tensors.fill(request.inputs["x"], bits)
    answer = tensors.to_array(ask.prediction.Predict(request, timeout=30).outputs["y"])
    assert tensors.widen(answer).tolist() == [2.0, -1.0]


def test_a_ragged_output_is_refused_by_name_and_the_others_are_answered(server: Any, grpc_to: Any) -> None:
    ask = grpc_to(server)
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="two", signature_name="words_of"))
    tensors.fill(request.inputs["text"], np.array([b"a b", b"c"], object))
    with pytest.raises(grpc.RpcError) as caught:
        ask.prediction.Predict(request, timeout=30)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith('output "words" is a ragged or sparse tensor, which no request can carry;')
    request.output_filter.append("texts")
    assert tensors.to_array(ask.prediction.Predict(request, timeout=30).outputs["texts"]).item() == 2


def test_a_signature_that_calls_python_is_refused_by_that_name(server: Any, grpc_to: Any, refused: Any) -> None:
    """TensorFlow Serving loads such a model, too, for its other signatures."""
    ask = grpc_to(server)
    with pytest.raises(refused, match="signature python calls Python code") as caught:
        ask.predict("two", {"x": np.ones(2, np.float32)}, "python")
    assert caught.value.code == "FAILED_PRECONDITION"
    repository = next(Path(part) for part in server.process.args if "savedmodels" in part)
    beside(repository).rename(repository / "python")
    server.wait_for_state("python", 1, "END")
    code, message = ask.status("python")[1][1:]
    assert code == "NOT_FOUND"
    assert message.startswith("the model calls Python code (tf.py_function or tf.numpy_function)")


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


def test_a_damaged_savedmodel_leaves_other_models_served(server: Any, tmp_path: Path, grpc_to: Any) -> None:
    repository = next(Path(part) for part in server.process.args if "savedmodels" in part)
    folder = repository / "broken" / ".writing"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes((repository / "two" / "1" / "saved_model.pb").read_bytes())
    folder.rename(repository / "broken" / "1")
    server.wait_for_state("broken", 1, "END")
    status = grpc_to(server).status("broken")[1]
    missing = "the SavedModel cannot be restored: variables/variables.index is missing; copy it again"
    assert status[1:] == ("DATA_LOSS", missing)
    assert grpc_to(server).predict("one", {"x": np.array([2.0], np.float32)}) == {"y": [6.0]}


def change(folder: Path, edit: Any) -> None:
    """Edits the MetaGraphDef of a SavedModel."""
    saved = pb.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    edit(saved.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())


def with_operation(name: str, in_function: bool = False) -> Any:
    def edit(graph: Any) -> None:
        if not in_function:
            graph.graph_def.node.add(name="z", op=name)
            return
        graph.graph_def.node.add(name="z", op="body")
        function = graph.graph_def.library.function.add()
        function.signature.name = "body"
        function.node_def.add(name="z", op=name)

    return edit


def without_input(graph: Any) -> None:
    next(node for node in graph.graph_def.node if node.op == "Mul").input[0] = "nowhere"


def test_errors_of_tensorflows_loader_keep_their_meaning(server: Any, grpc_to: Any, tmp_path: Path) -> None:
    repository = next(Path(part) for part in server.process.args if "savedmodels" in part)
    edits = {
        "text": with_operation("WordpieceTokenizeWithOffsets"),
        "forest": with_operation("SimpleMLInferenceOpWithHandle", in_function=True),
        "own": with_operation("MyOwnOperation"),
        "dangling": without_input,
    }
    for name, edit in edits.items():
        change(shutil.copytree(repository / "one", tmp_path / name) / "1", edit)
        (tmp_path / name).rename(repository / name)
    for name in ("index", "data"):
        version = shutil.copytree(repository / "one", tmp_path / name) / "1"
        file = next((version / "variables").glob(f"*.{name}*"))
        file.write_bytes(b"no table" * 20) if name == "index" else file.unlink()
        (tmp_path / name).rename(repository / name)
    ask = grpc_to(server)

    def ended(name: str) -> tuple[str, str]:
        server.wait_for_state(name, 1, "END")
        code, message = ask.status(name)[1][1:]
        return code, message

    code, message = ended("text")
    assert code == "NOT_FOUND"
    assert message.startswith("Op type not registered 'WordpieceTokenizeWithOffsets'; the installed tensorflow_text")
    assert "tensorflow_text was imported" in server.log.read_text()
    code, message = ended("forest")
    assert code == "NOT_FOUND"
    assert "'SimpleMLInferenceOpWithHandle'; it comes from the package tensorflow_decision_forests: install" in message
    assert ended("own") == (
        "NOT_FOUND",
        "Op type not registered 'MyOwnOperation'; the server's TensorFlow does not have it",
    )
    broken = "the SavedModel cannot be restored: "
    assert ended("dangling") == ("INVALID_ARGUMENT", f"{broken}Node 'y': Unknown input node 'nowhere'")
    assert ended("index") == ("DATA_LOSS", f"{broken}not an sstable (bad magic number)")
    code, message = ended("data")
    assert code == "NOT_FOUND"
    assert message.startswith(f"{broken}variables/variables.data-00000-of-00001; No such file")


def test_the_metagraph_with_exactly_the_tags_is_served(server: Any, grpc_to: Any, tmp_path: Path) -> None:
    repository = next(Path(part) for part in server.process.args if "savedmodels" in part)
    folder = shutil.copytree(repository / "one", tmp_path / "tags") / "1"
    content = (folder / "saved_model.pb").read_bytes()
    [other] = pb.SavedModel.FromString(content).meta_graphs
    other.meta_info_def.tags.append("gpu")
    signature = other.signature_def["serving_default"]
    signature.outputs["other"].CopyFrom(signature.outputs["y"])
    del signature.outputs["y"]
    # Messages that follow each other are one, with the repeated fields of both.
    (folder / "saved_model.pb").write_bytes(pb.SavedModel(meta_graphs=[other]).SerializeToString() + content)
    for tags, outputs in ((("serve",), ["y"]), (("gpu", "serve"), ["other"])):
        assert list(read_signature_defs(folder, tags)["serving_default"].outputs) == outputs
    with pytest.raises(NotFound, match=r"no MetaGraph with the tags \{gpu\}; it has \{serve, gpu\}, \{serve\}"):
        read_signature_defs(folder, ("gpu",))
    (tmp_path / "tags").rename(repository / "tags")
    server.wait_for_state("tags", 1, "AVAILABLE")
    assert grpc_to(server).predict("tags", {"x": np.array([2.0], np.float32)}) == {"y": [6.0]}


def test_a_signature_that_returns_its_input_is_refused_in_tensorflows_words(server: Any) -> None:
    status, answer = server.send("POST", "/v1/models/same:predict", b'{"instances": [1.0]}')
    assert (status, json.loads(answer)) == (400, {"error": "x:0 is both fed and fetched."})
    assert "Traceback" not in server.log.read_text()


def test_the_init_op_of_a_savedmodel_cannot_be_called(server: Any, grpc_to: Any, refused: Any) -> None:
    with pytest.raises(refused, match="belongs to loading the model and cannot be called") as caught:
        grpc_to(server).predict("two", {}, "__saved_model_init_op")
    assert caught.value.code == "FAILED_PRECONDITION"


def test_a_version_whose_graph_arrives_later_moves_to_it(server: Any, tiny: Any, grpc_to: Any, tmp_path: Path) -> None:
    repository = next(Path(part) for part in server.process.args if "savedmodels" in part)
    shutil.copytree(repository / "two", tmp_path / "later").rename(repository / "later")
    server.wait_for_state("later", 1, "AVAILABLE")
    ask, x = grpc_to(server), np.array([[1.0]], np.float32)
    assert ask.predict("later", {"x": x}) == {"y": [[2.5]], "same": [[1.0]]}
    assert "later version 1 has no verified ONNX graph and runs on TensorFlow" in server.log.read_text()
    graph_for_one_signature(repository / "later" / "1", tiny)
    server.wait_for(lambda: ask.predict("later", {"x": x})["y"] == [[8.0]])
    assert server.states("later") == {1: "AVAILABLE"}
