"""What a model of the collection is, and how its SavedModel is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Build = Callable[[Path], None]
Range = tuple[float, float]


@dataclass(frozen=True)
class Case:
    """A model as somebody may bring it.

    build    writes its SavedModel to a folder
    ranges   input -> lowest and highest value that a caller sends; other inputs take anything
    lengths  lengths that free axes other than the first may have
    refused  words of the reason for which no signature can have a graph; None: all can
    strings  whether a signature takes or returns strings
    is_quick whether the normal test run includes it
    is_large whether it takes a minute
    """

    name: str
    group: str
    build: Build
    ranges: Mapping[str, Range] = field(default_factory=dict)
    lengths: Sequence[int] = (5, 16)
    refused: str | None = None
    strings: bool = False
    is_quick: bool = False
    is_large: bool = False


def spec(*shape: int | None, dtype: Any = tf.float32) -> tf.TensorSpec:
    """The spec of a tensor of this shape; None is a free axis."""
    return tf.TensorSpec(shape, dtype)


def weights(*shape: int, seed: int = 0, scale: float = 0.3) -> np.ndarray:
    """Normal float32 weights."""
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def function(
    compute: Callable[..., Any], *, variables: Callable[[], Sequence[tf.Variable]] | None = None, **specs: Any
) -> Build:
    """A tf.Module with one signature, `serving_default`, that computes `compute` of named tensors.

    variables  makes variables, which `compute` takes first
    """

    def build(folder: Path) -> None:
        module = tf.Module()
        module.kept = list(variables()) if variables else []

        def signature(**tensors: tf.Tensor) -> dict[str, tf.Tensor]:
            result = compute(*module.kept, **tensors)
            return result if isinstance(result, dict) else {"out": result}

        named = {name: tf.TensorSpec(s.shape, s.dtype, name=name) for name, s in specs.items()}
        module.run = tf.function(signature)
        tf.saved_model.save(module, str(folder), signatures=module.run.get_concrete_function(**named))

    return build


def network(make: Callable[[], keras.Model], weighted: bool = True) -> Build:
    """A Keras model as `model.export` writes it, with random weights and moving averages that are not 0 and 1."""

    def build(folder: Path) -> None:
        keras.utils.set_random_seed(1)
        model = make()
        if weighted:
            random = np.random.default_rng(0)
            for variable in model.weights:
                name, shape = variable.path, tuple(variable.shape)
                if "variance" in name:
                    variable.assign(0.5 + random.random(shape))
                elif name.endswith(("moving_mean", "bias", "beta")):
                    variable.assign(0.1 * random.standard_normal(shape))
        model.export(str(folder), verbose=False)

    return build


def layers(shape: Sequence[int | None], *stack: Callable[[], Any], dtype: str | None = None) -> Build:
    """A Keras model that is a stack of layers over one input."""

    def make() -> keras.Model:
        inputs = x = keras.Input(tuple(shape), dtype=dtype)
        for layer in stack:
            x = layer()(x)
        return keras.Model(inputs, x)

    return network(make)


def frozen_graph(define: Callable[[], tuple[dict[str, Any], dict[str, Any]]], **options: Any) -> Build:
    """A TensorFlow 1 model: `define` makes its graph and returns inputs and outputs.

    options  of `add_meta_graph_and_variables`, and `tags`
    """

    def build(folder: Path) -> None:
        v1 = tf.compat.v1
        with v1.Graph().as_default(), v1.Session() as session:
            v1.set_random_seed(1)
            inputs, outputs = define()
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            builder = v1.saved_model.Builder(str(folder))
            signature = v1.saved_model.predict_signature_def(inputs, outputs)
            given = dict(options)
            tags = given.pop("tags", [["serve"]])
            for n, each in enumerate(tags):
                if n:
                    builder.add_meta_graph(each, {"serving_default": signature})
                else:
                    builder.add_meta_graph_and_variables(
                        session, each, {"serving_default": signature}, main_op=v1.tables_initializer(), **given
                    )
            builder.save()

    return build
