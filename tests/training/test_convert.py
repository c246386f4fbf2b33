"""SavedModels that others made get verified graphs."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

from ladle.clients.wire import tensors
from ladle.serving.servables import saved_model
from ladle.serving.servables.engines.onnx import OnnxEngine
from ladle.training.convert import main, run
from ladle.training.export import signature
from ladle.training.export.attempts import ONNX_RUNTIME, TENSORFLOW, Attempt, Attempts
from ladle.training.export.comparison import compare_hard
from ladle.training.export.conversion import convert
from ladle.training.export.version import ConvertError
from ladle.training.onnx.convert import session
from ladle.training.onnx.parity import MismatchError
from ladle.training.store import card, warmup
from ladle.training.store.warmup import WarmUp


class Model(tf.Module):
    """Four signatures: one that converts, two with strings, one that takes one image size alone."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(tf.random.stateless_normal([3, 2], seed=[1, 2]))

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def score(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = tf.matmul(x, self.kernel)
        return {"scores": scores, "class_id": tf.argmax(scores, axis=-1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def lengths(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"n": tf.strings.length(tf.strings.unicode_transcode(text, "UTF-8", "UTF-16-BE"))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def digits(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"n": tf.strings.length(tf.strings.format("{}", x))}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
    def pairs(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.matmul(x, tf.ones([48, 2]))}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A version of `theirs`, in a repository."""
    model = Model()
    signatures = {"serving_default": model.score, "text": model.lengths, "digits": model.digits, "pairs": model.pairs}
    folder = tmp_path / "theirs" / "3"
    tf.saved_model.save(model, str(folder), signatures=signatures)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_graph_that_agrees_is_added_with_a_card(saved: Path) -> None:
    before = files(saved)
    result = convert(saved)
    assert result.done
    assert result.graphs == {"serving_default": "model.onnx"}
    after = files(saved)
    assert set(after) - set(before) == {"model.onnx", "assets.extra/card.json"}
    assert {name: after[name] for name in before} == before
    content = card.read(saved)
    assert content is not None
    assert (content["network"], content["version"], content["task"]) == ("theirs", 3, None)
    assert content["onnx"]["model.onnx"]["parity"]["inputs"] == 109  # random and hard ones
    x = np.random.default_rng(0).random((5, 3), np.float32)
    session = onnxruntime.InferenceSession(saved / "model.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"x": x})
    np.testing.assert_allclose(
        scores, tf.saved_model.load(str(saved)).signatures["serving_default"](x=x)["scores"], 1e-5
    )


def test_a_signature_that_cannot_be_converted_says_why(saved: Path) -> None:
    reasons = convert(saved).reasons
    assert reasons["text"].endswith("runs on text, for which only TensorFlow has code")
    assert reasons["digits"].startswith("StringFormat (")
    assert reasons["pairs"].startswith("TensorFlow refuses random inputs (")
    content = card.read(saved)
    assert content is not None
    assert {name: entry.get("reason") for name, entry in content["signatures"].items()} == {
        "serving_default": None,
        **reasons,
    }


def test_a_signature_with_state_stays_on_tensorflow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Alarm(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.threshold = tf.Variable(0.5, name="threshold")

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="value")])
        def set(self, value: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"set": self.threshold.assign(value)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def ask(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"alarm": x > self.threshold}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def double(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": x * 2.0}

    model = Alarm()
    signatures = {"serving_default": model.ask, "set": model.set, "double": model.double}
    tf.saved_model.save(model, str(tmp_path / "1"), signatures=signatures)
    assert run([str(tmp_path / "1")]) == 1
    because = 'it reads the variable threshold, which "set" changes; an ONNX graph would keep its present value'
    assert f"  serving_default  not converted: {because}" in capsys.readouterr().out.splitlines()
    content = card.read(tmp_path / "1")
    assert content is not None
    assert content["signatures"]["serving_default"]["reason"] == because
    assert content["signatures"]["double"]["graph"] == "double.onnx"
    # A card of an earlier version, which made a graph of it.
    content["signatures"]["serving_default"] = content["signatures"]["double"]
    (tmp_path / "1" / card.FILE).write_bytes(card.encode(content))
    assert convert(tmp_path / "1").reasons["serving_default"] == because
    assert "graph" not in card.read(tmp_path / "1")["signatures"]["serving_default"]  # type: ignore[index]


def test_warm_up_requests_say_what_inputs_look_like(saved: Path) -> None:
    (saved / "assets.extra").mkdir()
    real = WarmUp("pairs", {"x": np.full((2, 48), 7, np.float32)})
    warmup.write(saved / warmup.FILE, "theirs", [real])
    result = convert(saved)
    assert result.graphs["pairs"] == "pairs.onnx"
    assert result.parity["pairs"]["inputs"] == 66


def test_a_second_run_changes_nothing(saved: Path) -> None:
    first = convert(saved)
    before = files(saved)
    assert convert(saved) == first
    assert files(saved) == before


def test_a_graph_of_the_model_that_was_in_the_folder_before_is_replaced(saved: Path) -> None:
    convert(saved)
    model = Model()
    model.kernel.assign(-model.kernel)
    tf.saved_model.save(model, str(saved), signatures={"other": model.pairs, "serving_default": model.score})
    assert saved_model.read_card(saved) is None  # a server runs no graph of the old model
    assert convert(saved).graphs == {"serving_default": "model.onnx"}
    content = card.read(saved)
    assert content is not None
    assert set(content["signatures"]) == {"serving_default", "other"}
    assert saved_model.read_card(saved) == content
    session = onnxruntime.InferenceSession(saved / "model.onnx", providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).random((5, 3), np.float32)
    np.testing.assert_allclose(session.run(["scores"], {"x": x})[0], x @ model.kernel.numpy(), rtol=1e-5)


def test_a_graph_without_a_successor_is_removed_with_the_old_card(saved: Path) -> None:
    convert(saved)
    model = Model()
    tf.saved_model.save(model, str(saved), signatures={"serving_default": model.lengths})
    assert not convert(saved).done
    assert not (saved / "model.onnx").exists()
    content = card.read(saved)
    assert content is not None
    assert content["onnx"] == {}


def test_a_model_s_folder_stands_for_its_newest_version(saved: Path) -> None:
    shutil.copytree(saved, saved.with_name("12"))
    assert convert(saved.parent).folder == saved.with_name("12")


def test_what_keras_exports_is_converted(tmp_path: Path) -> None:
    inputs = keras.Input((6, 6, 1))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Conv2D(2, 3)(inputs))))
    model.export(tmp_path / "net", verbose=False)
    assert convert(tmp_path / "net").graphs["serving_default"] == "model.onnx"


def test_the_statistics_of_a_normalization_become_part_of_the_graph(tmp_path: Path) -> None:
    normalize = keras.layers.Normalization()
    normalize.adapt(np.random.default_rng(0).normal(5, 2, (20, 3)).astype(np.float32))
    inputs = keras.Input((3,), name="x")
    keras.Model(inputs, keras.layers.Dense(2)(normalize(inputs))).export(tmp_path / "net", verbose=False)
    result = convert(tmp_path / "net")
    assert result.graphs["serving_default"] == "model.onnx"
    assert [value.name for value in onnx.load(tmp_path / "net" / "model.onnx").graph.input] == ["x"]


def test_a_saved_model_of_tensorflow_1_is_converted(tmp_path: Path) -> None:
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        x = tf.compat.v1.placeholder(tf.float32, [None], name="a")
        weight = tf.compat.v1.get_variable("w", initializer=0.5)
        session.run(weight.initializer)
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "half" / "1"), {"x": x}, {"y": weight * x + 2.0})
    assert convert(tmp_path / "half").graphs == {"serving_default": "model.onnx"}


@pytest.mark.parametrize("with_shape", [False, True], ids=["number", "mask"])
def test_a_default_of_tensorflow_1_is_used_unless_the_signature_takes_it(with_shape: bool, tmp_path: Path) -> None:
    graph, v1 = tf.Graph(), tf.compat.v1
    with graph.as_default(), v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        mask = v1.placeholder_with_default(np.full((1, 4), 2, np.float32), [None, 4], name="mask")
        training = v1.placeholder_with_default(False, [], name="training")
        y = tf.cond(training, lambda: tf.nn.dropout(x, 0.5), lambda: x) * mask
        inputs = {"x": x, "mask": mask} if with_shape else {"x": x}
        v1.saved_model.simple_save(session, str(tmp_path / "1"), inputs, {"y": y})
    assert convert(tmp_path / "1").graphs == {"serving_default": "model.onnx"}
    loaded = onnxruntime.InferenceSession(tmp_path / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    given = {"x": np.ones((3, 4), np.float32)} | ({"mask": np.full((3, 4), 5, np.float32)} if with_shape else {})
    np.testing.assert_array_equal(loaded.run(["y"], given)[0], np.full((3, 4), 5 if with_shape else 2))


def test_signatures_that_compute_the_same_share_a_graph(tmp_path: Path) -> None:
    """Keras exports each network as `serve` and as `serving_default`."""
    inputs = keras.Input((3,), name="x")
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).export(tmp_path / "net", verbose=False)
    said: list[str] = []
    result = convert(tmp_path / "net", tell=said.append)
    assert result.graphs == {"serving_default": "model.onnx", "serve": "model.onnx"}
    assert [line.partition(":")[0] for line in said] == ["[1/2] serving_default"] * 3
    content = card.read(tmp_path / "net")
    assert content is not None
    assert content["signatures"]["serve"]["graph"] == "model.onnx"
    assert convert(tmp_path / "net") == result


def test_the_weights_of_a_large_model_lie_beside_its_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, "LARGE_BYTES", 2**20)
    ids = keras.Input((5,), name="ids", dtype="int32")
    hidden = keras.layers.Dense(512, activation="relu")(keras.layers.Embedding(3000, 128)(ids))
    hidden = keras.layers.Conv1D(512, 3)(keras.layers.Dense(512)(hidden))
    keras.Model(ids, keras.layers.Dense(2)(hidden)).export(tmp_path / "1", verbose=False)
    folder = tmp_path / "1"
    result = convert(folder)
    assert result.graphs == {"serving_default": "model.onnx", "serve": "model.onnx"}
    assert (folder / "model.onnx").stat().st_size < 2**20 < 4e6 < (folder / "model.onnx.data").stat().st_size
    assert not list(folder.glob(".tmp*"))
    content = card.read(folder)
    assert content is not None
    assert content["onnx"]["model.onnx"]["weights"] == "model.onnx.data"
    assert content["size_bytes"] == card.size_bytes(folder) - (folder / card.FILE).stat().st_size
    signatures = {n: saved_model.parse_signature(n, d) for n, d in saved_model.read_signature_defs(folder).items()}
    x = np.random.default_rng(0).integers(0, 3000, (2, 5), np.int32)
    engine = OnnxEngine(folder, content, signatures)
    (name,) = signatures["serving_default"].outputs
    expected = tf.saved_model.load(str(folder)).signatures["serving_default"](ids=x)[name]
    np.testing.assert_allclose(engine.run("serving_default", {"ids": x}, [name])[name], expected, atol=1e-5)
    assert convert(folder) == result
    # Another model in its place: its weights replace these.
    model = Model()
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.score})
    convert(folder)
    assert not (folder / "model.onnx.data").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_model_of_more_than_2_gb_is_converted_in_bounded_memory(tmp_path: Path) -> None:
    build = f"""
import tensorflow as tf
model = tf.Module()
model.weights = [tf.Variable(tf.fill([{2**13}, 22000], n + 0.5)) for n in range(3)]
@tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="ids")])
def total(ids):
    return {{"y": sum(tf.gather(weight, ids)[:, :4] for weight in model.weights)}}
tf.saved_model.save(model, {str(tmp_path / "1")!r}, signatures={{"serving_default": total}})
"""
    subprocess.run([sys.executable, "-c", build], check=True)
    assert main([str(tmp_path / "1")]) == 0
    peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    weights_bytes = (tmp_path / "1" / "model.onnx.data").stat().st_size
    assert weights_bytes > 2**31
    assert peak_bytes < 4 * weights_bytes


def test_half_precision_is_compared_within_its_own_digits(tmp_path: Path) -> None:
    inputs = keras.Input((16,), name="x")
    hidden = keras.layers.Dense(64, activation="relu", dtype="mixed_float16")(inputs)
    keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(hidden)).export(tmp_path / "net", verbose=False)
    result = convert(tmp_path / "net")
    assert 1e-6 < result.parity["serving_default"]["max_rel"] < result.parity["serving_default"]["relative"] < 0.01


def test_inputs_without_a_batch_are_compared_one_by_one(tmp_path: Path) -> None:
    class Fixed(tf.Module):
        @tf.function(
            input_signature=[tf.TensorSpec([2, 3], tf.float32, name="x"), tf.TensorSpec([], tf.int32, name="n")]
        )
        def scale(self, x: tf.Tensor, n: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": x * tf.cast(n, tf.float32)}

    model = Fixed()
    tf.saved_model.save(model, str(tmp_path / "fixed"), signatures={"serving_default": model.scale})
    result = convert(tmp_path / "fixed")
    assert result.graphs == {"serving_default": "model.onnx"}
    inputs = onnx.load(tmp_path / "fixed" / "model.onnx").graph.input
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in inputs}
    assert shapes == {"x": [2, 3], "n": []}


def test_engines_that_disagree_get_no_graph(tmp_path: Path) -> None:
    class Random(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def noisy(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": x + tf.random.uniform(tf.shape(x))}

    model = Random()
    tf.saved_model.save(model, str(tmp_path / "random"), signatures={"serving_default": model.noisy})
    before = files(tmp_path)
    result = convert(tmp_path / "random")
    assert not result.done
    assert 'output "y" differs by' in result.reasons["serving_default"]
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("right", "wrong", "specs"),
    [
        (lambda x: x // 2, lambda x: np.trunc(x / 2).astype(x.dtype), {"x": tf.TensorSpec([None], tf.int32)}),
        (lambda x: x, lambda x: np.minimum(x, 1000), {"x": tf.TensorSpec([None, 2], tf.int64)}),
        (lambda x: x, lambda x: x.astype(np.float32).astype(np.int32), {"x": tf.TensorSpec([None, 9], tf.int32)}),
        (lambda x: np.sign(x), lambda x: np.where(x < 0, -1, 1).astype(x.dtype), {"x": tf.TensorSpec([8], tf.float32)}),
        (lambda x: x[:, : x.shape[1] // 8 * 8], lambda x: x, {"x": tf.TensorSpec([None, None], tf.float32)}),
        (
            lambda x: x[:, :5, :5],
            lambda x: x[:, :5, : x.shape[1] // 6],
            {"x": tf.TensorSpec([2, None, None], tf.float32)},
        ),
    ],
    ids=["negative integers", "large integers", "integers as float32", "zeros", "odd sizes", "height unlike width"],
)
def test_engines_are_compared_on_values_and_sizes_that_random_inputs_lack(right: Any, wrong: Any, specs: Any) -> None:
    def engine(function: Any) -> Any:
        return lambda arrays: {"y": function(arrays["x"])}

    agreement = compare_hard(engine(right), engine(right), specs, 32)
    assert agreement.inputs > 0
    with pytest.raises(MismatchError):
        compare_hard(engine(right), engine(wrong), specs, 32)


def test_first_axes_of_several_inputs_are_compared_at_different_lengths() -> None:
    specs = {"query": tf.TensorSpec([None, 4], tf.float32), "documents": tf.TensorSpec([None, 4], tf.float32)}

    def wrong(arrays: Any) -> Any:
        return {"y": np.zeros((len(arrays["documents"]),) * 2)}

    with pytest.raises(MismatchError):
        compare_hard(lambda a: {"y": np.zeros((len(a["query"]), len(a["documents"])))}, wrong, specs, 32)


def saved_function(folder: Path, function: Any, *specs: tf.TensorSpec) -> Path:
    module = tf.Module()
    traced = tf.function(lambda *tensors: {"y": function(*tensors)}, input_signature=specs)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": traced.get_concrete_function()})
    return folder


X = tf.TensorSpec([None, 4], tf.float32, name="x")
W = tf.TensorSpec([None, None], tf.float32, name="x")
N = tf.TensorSpec([None], tf.int64, name="n")


@pytest.mark.parametrize(
    ("function", "spec", "words"),
    [
        (lambda x: tf.cast(x, tf.uint8), X, "it casts floats to uint8, which is undefined outside 0..255"),
        (lambda x: tf.slice(x, [0, 0], [-1, 3]), X, None),
        (lambda x: tf.slice(x, [0, 0], [-1, 9]), W, "it answers inputs that TensorFlow refuses: Expected size[1]"),
        (lambda n: tf.reduce_sum(n, keepdims=True), N, None),
        (lambda n: n * 3, N, None),
    ],
    ids=["cast", "slice", "slice outside", "sum of large integers", "product"],
)
def test_a_graph_is_compared_where_engines_differ(function: Any, spec: Any, words: str | None, tmp_path: Path) -> None:
    reasons = convert(saved_function(tmp_path / "1", function, spec)).reasons
    assert (not reasons) if words is None else reasons["serving_default"].startswith(words)


def test_a_softmax_is_verified_for_finite_numbers_alone(tmp_path: Path) -> None:
    """TensorFlow's own answer to NaN depends on the processor, and on where in a vector it stands."""
    folder = saved_function(tmp_path / "1", tf.nn.softmax, X)
    assert convert(folder).done
    content = card.read(folder)
    assert content is not None
    rows = np.where(np.eye(16, dtype=bool), np.nan, np.ones(16, np.float32)).astype(np.float32)
    is_all_nan = bool(np.isnan(tf.nn.softmax(rows).numpy()).all())  # as ONNX Runtime answers
    assert content["onnx"]["model.onnx"].get("finite", False) or is_all_nan
    assert convert(saved_function(tmp_path / "2", tf.nn.relu, X)).done
    assert "finite" not in card.read(tmp_path / "2")["onnx"]["model.onnx"]  # type: ignore[index]


IMAGE = tf.TensorSpec([None, None, None, 1], tf.float32, name="x")


def strided(x: tf.Tensor) -> tf.Tensor:
    """Two convolutions as in MobileNetV2: of an image of 3 × 2 pixels, the second finds none."""
    for _ in range(2):
        x = tf.nn.conv2d(tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]]), tf.ones([3, 3, 1, 1]), 2, "VALID")
    return tf.reduce_mean(x, [1, 2])


def test_an_image_without_a_place_for_a_window_may_be_refused(tmp_path: Path) -> None:
    assert strided(np.ones((2, 3, 2, 1), np.float32)).shape == (2, 1)  # of no pixels: whatever was in memory
    assert convert(saved_function(tmp_path / "1", strided, IMAGE)).reasons == {}


def test_a_ragged_output_is_named(tmp_path: Path) -> None:
    lengths = tf.TensorSpec([None], tf.int32, name="n")
    reasons = convert(saved_function(tmp_path / "1", tf.ragged.range, lengths)).reasons
    assert reasons["serving_default"].startswith('output "y" is a ragged or sparse tensor;')


def test_bfloat16_goes_in_and_out_of_a_graph(tmp_path: Path) -> None:
    brain = tf.TensorSpec([None, 4], tf.bfloat16, name="x")
    kernel = tf.constant(np.random.default_rng(0).random((4, 3)), tf.bfloat16)
    folder = saved_function(tmp_path / "1", lambda x: tf.nn.relu(x @ kernel - tf.constant(1, tf.bfloat16)), brain)
    assert convert(folder).reasons == {}
    definitions, content = saved_model.read_signature_defs(folder), saved_model.read_card(folder)
    assert content is not None
    signature = saved_model.parse_signature("serving_default", definitions["serving_default"])
    engine = OnnxEngine(folder, content, {"serving_default": signature})
    x = tensors.narrow(np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32))
    got = engine.run("serving_default", {"x": x}, ("y",))["y"]
    assert got.dtype == tensors.BFLOAT16
    expected = tf.saved_model.load(str(folder)).signatures["serving_default"](x=x.view(tf.bfloat16.as_numpy_dtype))["y"]
    np.testing.assert_allclose(tensors.widen(got), tf.cast(expected, tf.float32), rtol=2**-6)


class Pools(tf.Module):
    """Five times a convolution and a pool: TensorFlow's pooling divides by zero where its window does not fit.

    With a second input of free size, the converter does not look for the smallest image.
    """

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, 3], tf.float32, name="x"),
            tf.TensorSpec([None, None], tf.float32, name="by"),
        ]
    )
    def pooled(self, x: tf.Tensor, by: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.mean(x) * tf.reduce_max(by)}

    def mean(self, x: tf.Tensor) -> tf.Tensor:
        for _ in range(5):
            x = tf.nn.max_pool2d(tf.nn.conv2d(x, tf.ones([3, 3, 3, 3]) / 9.0, 1, "SAME"), 3, 2, "VALID")
        return tf.reduce_mean(x, [1, 2])


def pools_of(size: int) -> str:
    return f"by float32 [1, {size}], x float32 [1, {size}, {size}, 3]"


def test_inputs_that_crash_tensorflow_are_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = Pools()
    tf.saved_model.save(model, str(tmp_path / "1"), signatures={"serving_default": model.pooled})
    assert main([str(tmp_path / "1"), "--json"]) == 0
    told = capfd.readouterr()
    assert json.loads(told.out)["graphs"] == {"serving_default": "model.onnx"}
    # Whether TensorFlow crashes depends on the processor, too.
    ask = (
        "tf.saved_model.load(sys.argv[1]).signatures['serving_default'](x=tf.ones([1, 32, 32, 3]), by=tf.ones([1, 32]))"
    )
    command = [sys.executable, "-c", f"import sys, tensorflow as tf; {ask}", tmp_path / "1"]
    asked = subprocess.run(command, capture_output=True)
    said = f"TensorFlow crashed (SIGFPE) on {pools_of(32)}; trying others ..." in told.err.splitlines()
    assert said is (asked.returncode == -signal.SIGFPE)


def test_a_model_that_tensorflow_crashes_on_at_every_size_is_refused_in_one_sentence(tmp_path: Path) -> None:
    model = Pools()
    tf.saved_model.save(model, str(tmp_path / "1"), signatures={"serving_default": model.pooled})
    sizes = [Attempt("serving_default", TENSORFLOW, pools_of(n)) for n in (32, 64, 224, 16, 8, 1)]
    reasons = convert(tmp_path / "1", Attempts(sizes)).reasons
    assert reasons["serving_default"].startswith(
        "TensorFlow crashes on random inputs of every size; add warm-up requests"
    )
    onnx_crashes = [Attempt("serving_default", ONNX_RUNTIME, pools_of(64)), sizes[0]]
    reasons = convert(tmp_path / "1", Attempts(onnx_crashes)).reasons
    assert f"ONNX Runtime crashes on {pools_of(64)}" in reasons["serving_default"]


def test_images_in_which_a_window_finds_no_place_are_not_tried(tmp_path: Path) -> None:
    folder = saved_function(tmp_path / "1", Pools().mean, tf.TensorSpec([None, None, None, 3], tf.float32, name="x"))
    assert convert(folder).done
    run = session(str(folder / "model.onnx"))
    assert run({"x": np.ones((1, 63, 64, 3), np.float32)})["y"].shape == (1, 3)
    with pytest.raises(Exception, match="Non-zero status code"):
        run({"x": np.ones((1, 62, 64, 3), np.float32)})


def test_values_that_tensorflow_refuses_are_left_out(tmp_path: Path) -> None:
    class Table(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = tf.Variable(tf.random.stateless_normal([8, 2], seed=[1, 2]))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="ids")])
        def look_up(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": tf.gather(self.rows, ids)}  # refuses ids beyond the table

    model = Table()
    tf.saved_model.save(model, str(tmp_path / "table"), signatures={"serving_default": model.look_up})
    assert convert(tmp_path / "table").parity["serving_default"]["inputs"] >= 64


def test_a_file_of_the_user_is_never_overwritten(saved: Path) -> None:
    (saved / "model.onnx").write_bytes(b"theirs")
    before = files(saved)
    with pytest.raises(ConvertError, match=r"model\.onnx exists, and no card names it"):
        convert(saved)
    assert files(saved) == before


def test_files_of_a_killed_conversion_are_replaced(saved: Path) -> None:
    convert(saved)
    (saved / card.FILE).unlink()
    (saved / ".tmp-0123").mkdir()
    assert convert(saved).done
    assert not (saved / ".tmp-0123").exists()
    assert card.read(saved) is not None


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: None, "is not a folder"),
        (lambda folder: folder.mkdir(), "holds neither saved_model.pb nor a version"),
        (lambda folder: (folder / "net" / "1").mkdir(parents=True), "holds several models; give one of net"),
        (lambda folder: [folder.mkdir(), (folder / "saved_model.pb").write_bytes(b"junk")], "cannot be loaded"),
    ],
    ids=["missing", "empty", "repository", "broken"],
)
def test_a_folder_without_a_saved_model_is_refused_in_one_sentence(
    prepare: Any, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(tmp_path / "given")
    assert run([str(tmp_path / "given")]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    *_, line = told.err.splitlines()
    assert line.startswith("ladle convert: ")
    assert words in line
    assert told.err.count("\n") == 2  # after "loading TensorFlow ..."


def test_an_output_may_have_the_name_of_an_input(tmp_path: Path) -> None:
    """One is computed, the other is handed on."""
    module = tf.Module()
    module.run = tf.function(lambda x, key: {"x": x * 2.0, "key": key, "sum": x + 1.0})
    specs = {"x": tf.TensorSpec([None], tf.float32, "x"), "key": tf.TensorSpec([None], tf.int64, "key")}
    folder = tmp_path / "1"
    tf.saved_model.save(module, str(folder), signatures=module.run.get_concrete_function(**specs))
    result = convert(folder)
    assert result.done, result.reasons
    x, key = np.array([1, -2], np.float32), np.array([7, 9, 11])
    answered = engine(folder).run("serving_default", {"x": x, "key": key}, ("key", "sum", "x"))
    for name, expected in (("x", x * 2), ("key", key), ("sum", x + 1)):
        np.testing.assert_array_equal(answered[name], expected)


def test_a_signature_without_inputs_gets_a_graph(tmp_path: Path) -> None:
    module = tf.Module()
    module.table = tf.Variable([[1.0, 2.0]])
    module.run = tf.function(lambda: {"table": module.table * 2.0, "version": tf.constant(3)})
    folder = tmp_path / "1"
    tf.saved_model.save(module, str(folder), signatures=module.run.get_concrete_function())
    assert convert(folder).done
    answered = engine(folder).run("serving_default", {}, ("table", "version"))
    np.testing.assert_array_equal(answered["table"], [[2.0, 4.0]])
    assert answered["version"] == 3


def engine(folder: Path) -> OnnxEngine:
    """The engine with the graphs of a version."""
    defined = saved_model.read_signature_defs(folder).items()
    signatures = {n: saved_model.parse_signature(n, d) for n, d in defined if n != saved_model.INIT_OP}
    content = saved_model.read_card(folder)
    assert content is not None
    return OnnxEngine(folder, content, signatures)


def test_the_command_prints_each_signature(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(saved)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(saved)
    assert lines[1].startswith("  serving_default  model.onnx: 109 inputs, largest difference ")
    assert any(line.startswith("  digits           not converted: StringFormat (") for line in lines)


def test_the_command_answers_in_json(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(saved), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["folder"] == str(saved)
    assert told["done"] is True
    assert told["graphs"] == {"serving_default": "model.onnx"}
    assert set(told["reasons"]) == {"text", "digits", "pairs"}
