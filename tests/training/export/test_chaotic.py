"""Networks that are chaotic until they are trained: TensorFlow's own answer changes with the last digit of an input."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle.training.export.comparison import compare_hard, compare_usual
from ladle.training.export.conversion import convert
from ladle.training.onnx import ranges
from ladle.training.onnx.convert import session, to_onnx
from ladle.training.onnx.parity import MismatchError, Parity, compare
from ladle.training.onnx.steadiness import Steadiness, nudged
from ladle.training.store import savedmodel

DEPTH, UNITS = 40, 32
SPECS = {"x": tf.TensorSpec([None, UNITS], tf.float32, name="x")}


class Reservoir(tf.Module):
    """Layers that are chaotic on inputs near 0 and contract on large ones, as EfficientNetV2S without training is."""

    def __init__(self, *, factor: float = 1.0, depth: int = DEPTH, epsilon: float = 1e-3) -> None:
        super().__init__()
        random = np.random.default_rng(3)
        self.kernels = [
            tf.Variable(random.normal(0, UNITS**-0.5, (UNITS, UNITS)), dtype=tf.float32) for _ in range(DEPTH)
        ]
        self.kernels[DEPTH // 2].assign(self.kernels[DEPTH // 2] * factor)
        self.into = tf.Variable(random.normal(0, UNITS**-0.5, (UNITS, UNITS)), dtype=tf.float32)
        self.head = tf.Variable(random.normal(0, 1, (UNITS, 5)), dtype=tf.float32)
        self.variance = tf.Variable(random.uniform(0.05, 2, UNITS), dtype=tf.float32)
        self.depth, self.epsilon = depth, epsilon

    @tf.function(input_signature=[SPECS["x"]])
    def logits(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        gain = 0.6 + 4 * tf.exp(-tf.reduce_mean(x * x, axis=1, keepdims=True) / 200)
        given = tf.matmul(x / 255, self.into)
        hidden = given
        for kernel in self.kernels[: self.depth]:
            hidden = tf.tanh(gain * tf.matmul(hidden, kernel) / tf.sqrt(self.variance + self.epsilon) + given)
        return {"logits": tf.matmul(hidden, self.head)}

    @tf.function(input_signature=[SPECS["x"]])
    def classes(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(100 * self.logits(x)["logits"])}


def compared(reference: Reservoir, converted: Reservoir, name: str) -> Parity:
    """The parity of one network in TensorFlow with the graph of another."""
    graph = to_onnx(getattr(converted, name), SPECS)
    run = functools.partial(savedmodel.run, getattr(reference, name))
    assert ranges.is_smooth(graph)
    steady = Steadiness(run)
    other = session(graph.SerializeToString())
    found, length, _ = compare_usual(run, other, SPECS, [], steady=steady)
    hard = compare_hard(run, other, SPECS, length, spreads=found.spreads, steady=steady)
    assert found.unsteady == 0
    return found.joined(hard)


@pytest.fixture(scope="module")
def reservoir() -> Reservoir:
    return Reservoir()


@pytest.mark.parametrize("name", ["logits", "classes"])
def test_a_chaotic_network_is_compared_where_it_is_steady(reservoir: Reservoir, name: str) -> None:
    x = {"x": np.random.default_rng(0).standard_normal((64, UNITS)).astype(np.float32)}
    run = functools.partial(savedmodel.run, getattr(reservoir, name))
    with pytest.raises(MismatchError):  # TensorFlow with itself
        compare(run, lambda given: run(nudged(np.random.default_rng(1), given, 1)), [x], 64, by_spread=True)
    assert compared(reservoir, reservoir, name).unsteady > 0


@pytest.mark.parametrize("name", ["logits", "classes"])
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"factor": 1.03}, id="one kernel is 3 % larger"),
        pytest.param({"depth": DEPTH - 1}, id="a layer is missing"),
        pytest.param({"epsilon": 1e-5}, id="another epsilon"),
    ],
)
def test_a_wrong_graph_of_a_chaotic_network_is_refused(
    reservoir: Reservoir, name: str, wrong: Mapping[str, float]
) -> None:
    with pytest.raises(MismatchError):
        compared(reservoir, Reservoir(**wrong), name)  # type: ignore[arg-type]


def test_chaotic_networks_convert(reservoir: Reservoir, tmp_path: Path) -> None:
    tf.saved_model.save(reservoir, str(tmp_path / "1"), {"logits": reservoir.logits, "classes": reservoir.classes})
    result = convert(tmp_path / "1")
    assert result.reasons == {}
    assert result.parity["classes"]["unsteady"] > 0
    assert result.parity["classes"]["max_abs"] < 1e-4
    assert result.parity["logits"]["unsteady"] > 0


def deep_tanh(x: tf.Tensor) -> tf.Tensor:
    random = np.random.default_rng(5)
    for _ in range(40):
        x = tf.tanh(tf.matmul(x, tf.constant(random.normal(0, 3 * UNITS**-0.5, (UNITS, UNITS)), tf.float32)))
    return x


def logistic_map(x: tf.Tensor) -> tf.Tensor:
    for _ in range(60):
        x = 4 * x * (1 - x)
    return x


def without_normalisation(x: tf.Tensor) -> tf.Tensor:
    random = np.random.default_rng(6)
    for _ in range(30):
        x = tf.nn.silu(tf.matmul(x, tf.constant(random.normal(0, 4 * UNITS**-0.5, (UNITS, UNITS)), tf.float32)))
    return x


def converted(function: Callable[[tf.Tensor], tf.Tensor], folder: Path) -> dict[str, str]:
    """The reasons why it did not convert."""
    module = tf.Module()
    module.call = tf.function(lambda x: {"y": function(x)}, input_signature=[SPECS["x"]])
    tf.saved_model.save(module, str(folder / "1"), {"serving_default": module.call})
    return convert(folder / "1").reasons


def test_what_is_chaotic_on_every_input_is_refused_with_the_reason(tmp_path: Path) -> None:
    assert "when the last digit of an input does" in converted(deep_tanh, tmp_path)["serving_default"]


@pytest.mark.parametrize("function", [logistic_map, without_normalisation])
def test_what_both_engines_compute_alike_converts(function: Callable[[tf.Tensor], tf.Tensor], tmp_path: Path) -> None:
    assert converted(function, tmp_path) == {}


def test_what_jumps_is_compared_strictly() -> None:
    def graph(function: Callable[[tf.Tensor], tf.Tensor]) -> bool:
        return ranges.is_smooth(to_onnx(tf.function(lambda x: {"y": function(x)}), SPECS))

    assert graph(lambda x: tf.nn.softmax(tf.reshape(x, [tf.shape(x)[0], -1])))
    for jump in (tf.floor, tf.round, tf.sign, lambda x: tf.where(x > 0, x, 1.0), lambda x: tf.cast(x > 0, tf.float32)):
        assert not graph(jump)
    assert not graph(lambda x: tf.cast(tf.cast(x, tf.int32), tf.float32))
    assert not graph(lambda x: tf.gather(x, tf.argmax(x[0])))
    assert not graph(tf.argmax)
    assert not graph(lambda x: x + tf.random.uniform(tf.shape(x)))


def test_what_is_random_is_not_chaotic() -> None:
    random = np.random.default_rng(0)

    def noisy(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"y": arrays["x"] + random.random(arrays["x"].shape)}

    request = {"x": np.ones((3, 2))}
    assert not Steadiness(noisy).unsteady(request, "y", noisy(request)["y"], noisy(request)["y"], 1e-4).any()


def test_a_trained_network_is_compared_on_usual_inputs() -> None:
    layers = [keras.layers.Dense(16, "relu") for _ in range(8)]
    model = keras.Sequential([keras.Input([UNITS]), *layers])
    call = tf.function(lambda x: {"y": model(x)})
    run = functools.partial(savedmodel.run, call)
    found, _, _ = compare_usual(run, run, SPECS, [], steady=Steadiness(run))
    assert found.unsteady == 0


def test_zeros_and_what_is_no_float_are_not_nudged() -> None:
    request = {"x": np.array([0, 1, -2], np.float32), "n": np.array([3])}
    made = nudged(np.random.default_rng(0), request, 1)
    assert made["x"][0] == 0
    assert (made["x"][1:] != request["x"][1:]).all()
    np.testing.assert_allclose(made["x"], request["x"], rtol=2e-7)
    assert made["n"] is request["n"]
