"""Signatures with state, or with checks of their values, are found in their SavedModels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from ladle.training.onnx import effects

X = tf.TensorSpec([None], tf.float32, name="x")


def reasons(folder: Path, functions: dict[str, Callable[..., Any]], *resources: Any) -> dict[str, str]:
    """Save functions of one float32 [b] tensor as signatures, and return why they must stay on TensorFlow."""
    module = tf.Module()
    module.resources = resources
    traced = {name: tf.function(f, input_signature=[X]).get_concrete_function() for name, f in functions.items()}
    tf.saved_model.save(module, str(folder), signatures=traced)
    return reasons_of(folder)


def reasons_of(folder: Path) -> dict[str, str]:
    return findings(folder).reasons


def findings(folder: Path) -> effects.Findings:
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return effects.find(saved.meta_graphs[0])


def changing(variable: tf.Variable, change: Callable[[tf.Tensor], Any]) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    def function(x: tf.Tensor) -> dict[str, tf.Tensor]:
        change(x)
        return {"y": x + 1.0}

    return function


CHANGES: dict[str, Callable[[tf.Variable], Callable[[tf.Tensor], Any]]] = {
    "assign": lambda v: lambda x: v.assign(tf.fill([3], x[0])),
    "assign_add": lambda v: lambda x: v.assign_add([1.0, 0.0, 0.0]),
    "scatter": lambda v: lambda x: v.scatter_nd_update([[1]], x[:1]),
    "slice": lambda v: lambda x: v[:1].assign(x[:1]),
    "in a branch": lambda v: lambda x: tf.cond(x[0] > 0, lambda: v.assign_sub(v), lambda: v.read_value()),
    "in a loop": lambda v: (
        lambda x: tf.while_loop(lambda i: i < 2.0, lambda i: [i + v.assign_add(v)[0] * 0 + 1], [0.0])
    ),
    "in a function": lambda v: tf.function(lambda x: v.assign_add(v)),
    "momentum": lambda v: (
        lambda x: tf.raw_ops.ResourceApplyGradientDescent(var=v.handle, alpha=0.1, delta=tf.ones([3]))
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_variable_that_any_signature_changes_keeps_its_readers_on_tensorflow(change: Any, tmp_path: Path) -> None:
    state, weights = tf.Variable([0.5, 1.0, 2.0], name="threshold"), tf.Variable(2.0, name="weights")
    found = reasons(
        tmp_path,
        {
            "set": changing(state, change(state)),
            "ask": lambda x: {"y": x * tf.reduce_sum(tf.cond(x[0] > 3.0, lambda: state * 2.0, lambda: state * 1.0))},
            "gather": lambda x: {"y": tf.gather(state, tf.cast(x, tf.int32))},
            "other": lambda x: {"y": x * weights},
        },
        state,
        weights,
    )
    assert set(found) == {"set", "ask", "gather"}
    assert found["set"].startswith("it changes the variable threshold;")
    assert found["ask"].startswith('it reads the variable threshold, which "set" changes;')


def test_a_random_generator_is_state(tmp_path: Path) -> None:
    generator = tf.random.Generator.from_seed(1)
    found = reasons(tmp_path, {"draw": lambda x: {"y": x + generator.normal(tf.shape(x))}}, generator.state)
    assert found["draw"].startswith("it changes the variable ")


def test_a_train_step_keeps_predictions_on_tensorflow(tmp_path: Path) -> None:
    weight = tf.Variable(1.0, name="weight")

    def train(x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((weight * x - 1.0) ** 2)
        weight.assign_sub(0.1 * tape.gradient(loss, weight))
        return {"loss": loss}

    assert set(reasons(tmp_path, {"train": train, "predict": lambda x: {"y": weight * x}}, weight)) == {
        "train",
        "predict",
    }


@pytest.mark.parametrize("resource", [True, False], ids=["resource", "reference"])
def test_variables_of_tensorflow_1_are_followed(resource: bool, tmp_path: Path) -> None:
    graph = tf.Graph()
    v1 = tf.compat.v1
    with graph.as_default(), v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        counter = v1.get_variable("counter", initializer=0.0, use_resource=resource)
        weight = v1.get_variable("weight", initializer=0.5, use_resource=resource)
        session.run(v1.global_variables_initializer())
        added = v1.assign_add(counter, 1.0)
        with tf.control_dependencies([added]):
            counted = tf.identity(x)
        total = v1.while_loop(lambda i: i < 3.0, lambda i: i + counter * 0.0 + 1.0, [tf.constant(0.0)])
        define = v1.saved_model.predict_signature_def
        builder = v1.saved_model.Builder(str(tmp_path / "1"))
        outputs = {"count": counted, "ask": x + counter, "loop": x + total, "half": x * weight}
        builder.add_meta_graph_and_variables(
            session, ["serve"], {name: define({"x": x}, {"y": y}) for name, y in outputs.items()}
        )
        builder.save()
    found = reasons_of(tmp_path / "1")
    assert set(found) == {"count", "ask", "loop"}
    assert found["count"].startswith("it changes the variable counter;")
    assert found["ask"].startswith('it reads the variable counter, which "count" changes;')


def below(x: tf.Tensor, limit: float) -> tf.Tensor:
    with tf.control_dependencies([tf.debugging.assert_less(x, limit)]):
        return tf.identity(x)


CHECKS: dict[str, tuple[Callable[[tf.Tensor], tf.Tensor], str]] = {
    "assert_less": (lambda x: below(x, 150.0), "Assert"),
    "Assert in a branch": (lambda x: tf.cond(x[0] > 3.0, lambda: below(x, 9.0), lambda: x), "Assert"),
    "check_numerics": (lambda x: tf.debugging.check_numerics(x, "not finite"), "check_numerics"),
    "ensure_shape": (lambda x: tf.ensure_shape(x, [4]), "ensure_shape"),
}


@pytest.mark.parametrize(("check", "word"), CHECKS.values(), ids=CHECKS)
def test_a_signature_that_checks_values_is_found(check: Any, word: str, tmp_path: Path) -> None:
    reasons(tmp_path, {"checked": lambda x: {"y": check(x) * 2.0}, "free": lambda x: {"y": x * 2.0}})
    assert findings(tmp_path).checks == {"checked": [word]}


def test_checks_that_always_hold_are_none(tmp_path: Path) -> None:
    def function(x: tf.Tensor) -> dict[str, tf.Tensor]:
        tf.debugging.Assert(True, [x])
        return {"y": tf.ensure_shape(tf.ensure_shape(x, [None])[None], [1, None])}

    assert reasons(tmp_path, {"serving_default": function}) == {}
    assert findings(tmp_path).checks == {}


def test_a_variable_that_no_output_depends_on_is_no_state(tmp_path: Path) -> None:
    calls, seed = tf.Variable(0.0, name="calls"), tf.Variable([0.0, 1.0], name="seed")
    functions = {
        "count": lambda x: (calls.assign_add(1.0), {"y": x})[1],
        "draw": lambda x: (seed.assign(seed + calls), {"y": x})[1],
        "free": lambda x: {"y": x + 1.0},
    }
    assert reasons(tmp_path, functions, calls, seed) == {}
    assert findings(tmp_path).vain == {"count", "draw"}


def test_a_variable_that_another_signature_returns_is_state(tmp_path: Path) -> None:
    calls = tf.Variable(0.0, name="calls")
    functions = {"count": lambda x: (calls.assign_add(1.0), {"y": x})[1], "ask": lambda x: {"y": x + calls}}
    assert set(reasons(tmp_path, functions, calls)) == {"count", "ask"}
