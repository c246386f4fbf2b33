"""Shared by image classifiers: config, loss and metrics, signatures, example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models import _steps as steps
from ladle.models._network import Assets, Config, option
from ladle.models._optimizers import OptimizerConfig, optimizer
from ladle.models._signatures import Core, Signature, Tensors


@dataclass(frozen=True)
class ImagesConfig(Config):
    """Image shape and number of classes."""

    monitor: str = option(
        "val_accuracy", "metric that selects the best epoch: highest for `accuracy`, lowest for `loss`"
    )
    height: int = option(28, "height of the images in pixels")
    width: int = option(28, "width of the images in pixels")
    channels: int = option(1, "1: grey, 3: colour")
    num_classes: int = option(10, "number of classes")
    top_k: int = option(3, "report also the accuracy among this many most probable classes")


@dataclass(frozen=True)
class ClassifierConfig(OptimizerConfig, ImagesConfig):
    """Options of classifiers that a Keras optimizer trains."""


def compile_classifier(model: keras.Model, config: ClassifierConfig) -> keras.Model:
    """Compile `model` (image -> logits) with its optimizer, cross-entropy, accuracy and top-k accuracy."""
    model.compile(
        optimizer=optimizer(config, model.trainable_variables),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            keras.metrics.SparseTopKCategoricalAccuracy(config.top_k, name=f"top_{config.top_k}_accuracy"),
        ],
        jit_compile=False,  # the training loop compiles the step, with XLA if asked to
    )
    return model


def signatures(model: keras.Model, config: ImagesConfig, assets: Assets) -> dict[str, Signature]:
    """Signatures that take images as a tensor, as PNG or JPEG bytes, or as tf.Example.

    serving_default  image float32 [b, h, w, c] in [0, 1] -> logits, probabilities float32 [b, k], class_id, label
    serving_bytes    image_bytes string [b]               -> the same
    classify         inputs string [b], tf.Example with h·w·c floats `image` -> classes string, scores float32 [b, k]

    ValueError unless there is a label for each class.
    """
    if len(assets.labels) != config.num_classes:
        raise ValueError(f"got {len(assets.labels)} labels; expected {config.num_classes}, one for each class")
    shape = (config.height, config.width, config.channels)

    # Inference mode (training=False): batch normalisation uses its averages, so an answer does not depend on the other
    # images of a request.
    def classify(image: tf.Tensor) -> Tensors:
        logits = model(image, training=False)  # [b, k]
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "class_id": tf.argmax(logits, axis=-1, output_type=tf.int64),  # [b]
        }

    core = Core("model", classify, {"image": tf.TensorSpec([None, *shape], tf.float32, name="image")})
    answer = ("logits", "probabilities", "class_id", "label")
    label = steps.LookupLabel(assets.labels)
    decode = steps.DecodeImage(config.channels, config.height, config.width)
    parse = steps.ParseExample("image", shape)
    top = steps.TopClasses(assets.labels)
    return {
        "serving_default": Signature(core, answer, after=[label]),
        "serving_bytes": Signature(core, answer, before=[decode], after=[label]),
        "classify": Signature(core, ("classes", "scores"), before=[parse], after=[top], method="classify"),
    }


def example(config: ImagesConfig) -> dict[str, Any]:
    """image float32 [4, h, w, c] in [0, 1]: noise."""
    shape = (4, config.height, config.width, config.channels)
    return {"image": np.random.default_rng(config.seed).random(shape, np.float32)}
