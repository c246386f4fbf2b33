"""Back-propagation by hand: layers of sigmoid units, each gradient written out by the chain rule, without a tape.

A layer computes O_j = σ(Σ_i O_i·W_ij + b_j). The error of one example is E = ½ Σ_k (O_k - t_k)². The backward pass
begins with the δ = ∂E/∂z of the last layer and takes it down layer by layer:

    last layer      δ_k = (O_k - t_k) · O_k(1 - O_k)
    hidden layers   δ_j = O_j(1 - O_j) · Σ_k δ_k·W_jk
    every layer     ∂E/∂W_ij = O_i·δ_j  and  ∂E/∂b_j = δ_j

Without hidden layers this is the perceptron, where O_i is the input x_j.
Source: Rumelhart, Hinton, Williams 1986, "Learning representations by back-propagating errors", Nature 323.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models import _derivatives as derivatives
from ladle.models._blocks import Pair, Saved, from_saved, seeds
from ladle.models._claims import accuracy
from ladle.models._classifier import ImagesConfig, example
from ladle.models._classifier import signatures as image_signatures
from ladle.models._network import Assets, Network, option
from ladle.models._optimizers import clipped
from ladle.models._signatures import Core, Signature, Tensors

ACTIVATIONS = {
    "sigmoid": (tf.sigmoid, derivatives.sigmoid),
    "tanh": (tf.tanh, derivatives.tanh),
    "relu": (tf.nn.relu, derivatives.relu),
    "leaky_relu": (lambda z: tf.nn.leaky_relu(z, derivatives.LEAK), derivatives.leaky_relu),
}
"""What a hidden layer does with z, and the derivative of that by its output."""
OUTPUTS = ("sigmoid", "softmax")
ERRORS = ("squared_error", "cross_entropy")


@dataclass(frozen=True)
class Config(ImagesConfig):
    """Widths, what each layer computes, and the error."""

    units: tuple[int, ...] = option((32, 16), "units of each hidden layer; none: a perceptron")
    activation: str = option("sigmoid", "of the hidden layers: sigmoid | tanh | relu | leaky_relu")
    output: str = option("sigmoid", "of the last layer: sigmoid | softmax")
    error: str = option("squared_error", "what training makes smaller: squared_error | cross_entropy")
    learning_rate: float = option(2.0, "step size of plain gradient descent")


@keras.saving.register_keras_serializable("ladle")
class Backprop(Saved):
    """Weights and biases as bare variables; both passes are written out."""

    def __init__(self, config: Config, **kwargs: Any) -> None:
        # float32 in mixed precision too: the passes below are few, and their products of small numbers need it.
        super().__init__(config, dtype="float32", **kwargs)
        # One unit tells two classes apart; a softmax has a unit for each.
        self.has_one_output = config.num_classes == 2 and config.output == "sigmoid"
        outputs = 1 if self.has_one_output else config.num_classes
        widths = (config.height * config.width * config.channels, *config.units, outputs)
        self.activation, self.slope = ACTIVATIONS[config.activation]
        seed = seeds(config.seed)
        self.pairs = [
            Pair(shape, shape[1:], keras.initializers.GlorotNormal(next(seed)), name=f"pair{n}")
            for n, shape in enumerate(itertools.pairwise(widths), 1)
        ]
        self._figures = [keras.metrics.Mean(name="loss"), keras.metrics.Mean(name="accuracy")]
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return self._figures

    def call(self, image: tf.Tensor, training: bool = False) -> tf.Tensor:
        """float32 [b, h, w, c] in [0, 1] -> logits [b, num_classes], log O of each class.

        Their softmax is O_k / ΣO_k; with one output it is 1 - O and O.
        """
        z = self.forward(image)[1]
        if self.config.output == "softmax":
            return z
        if self.has_one_output:
            z = tf.concat([-z, z], axis=1)  # [b, 2]; 1 - σ(z) = σ(-z)
        return tf.math.log_sigmoid(z)

    def forward(self, image: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """float32 [b, h, w, c] -> what each layer is given and the last one's output O, each [b, width]; and its z."""
        x = tf.reshape(tf.cast(image, tf.float32), [tf.shape(image)[0], int(np.prod(image.shape[1:]))])
        outputs = [x]
        *hidden, last = self.pairs
        for pair in hidden:
            outputs.append(self.activation(outputs[-1] @ pair.w.value + pair.b.value))
        z = outputs[-1] @ last.w.value + last.b.value
        return [*outputs, tf.sigmoid(z) if self.config.output == "sigmoid" else tf.nn.softmax(z)], z

    def target(self, label: tf.Tensor) -> tf.Tensor:
        """The target outputs t: class ids [b] -> float32 [b, outputs] of 0 and 1."""
        ids = tf.cast(label, tf.int64)[:, tf.newaxis]
        classes = [1] if self.has_one_output else range(self.config.num_classes)
        return tf.cast(tf.equal(ids, tf.constant(list(classes), tf.int64)), tf.float32)

    def error(self, output: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """E of each example: float32 [b, outputs] and [b, outputs] -> [b]."""
        if self.config.error == "squared_error":
            return 0.5 * tf.reduce_sum((output - target) ** 2, axis=1)
        tiny = 1e-7  # keeps the logarithm finite where an output is rounded to 0 or 1
        each = target * tf.math.log(tf.maximum(output, tiny))
        if self.config.output == "sigmoid":
            each += (1.0 - target) * tf.math.log(tf.maximum(1.0 - output, tiny))
        return -tf.reduce_sum(each, axis=1)

    def backward(self, outputs: list[tf.Tensor], target: tf.Tensor) -> list[tf.Tensor]:
        """δ = ∂E/∂z of every layer, the first one's first, for each example: float32 [b, units] each."""
        deltas = [self._last_delta(outputs[-1], target)]
        for pair, output in zip(self.pairs[:0:-1], outputs[-2:0:-1], strict=True):
            deltas.append(self.slope(output) * (deltas[-1] @ tf.transpose(pair.w.value)))
        return deltas[::-1]

    def _last_delta(self, output: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        if self.config.error == "cross_entropy":
            return derivatives.cross_entropy(output, target)
        if self.config.output == "sigmoid":
            return (output - target) * derivatives.sigmoid(output)
        # Each z changes all outputs of a softmax: δ_k = Σ_i (p_i - t_i) · ∂p_i/∂z_k.
        return tf.linalg.matvec(derivatives.softmax_jacobian(output), output - target)

    def gradients(self, outputs: list[tf.Tensor], deltas: list[tf.Tensor]) -> list[tf.Tensor]:
        """∂E/∂W and ∂E/∂b of each layer, means over the batch: O_i·δ_j and δ_j, in the weights' shapes."""
        n = tf.cast(tf.shape(outputs[0])[0], tf.float32)
        each = zip(outputs[:-1], deltas, strict=True)
        return [g for o, delta in each for g in (tf.transpose(o) @ delta / n, tf.reduce_sum(delta, axis=0) / n)]

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step of plain gradient descent on (image, label) -> running means of E and the accuracy before it."""
        image, label = batch
        outputs, _ = self.forward(image)
        target = self.target(label)
        gradients = self.gradients(outputs, self.backward(outputs, target))
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            gradients = tf.distribute.get_replica_context().all_reduce("mean", gradients)
        rate = tf.cast(self.optimizer.learning_rate, tf.float32)
        weights = [variable.value for pair in self.pairs for variable in (pair.w, pair.b)]
        for variable, gradient in zip(weights, clipped(gradients, self.config), strict=True):
            variable.assign_sub(rate * gradient)
        return self._results(outputs[-1], target)

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The same metrics without a step."""
        image, label = batch
        return self._results(self.forward(image)[0][-1], self.target(label))

    def _results(self, output: tf.Tensor, target: tf.Tensor) -> dict[str, tf.Tensor]:
        self._figures[0].update_state(self.error(output, target))
        if self.has_one_output:
            right = tf.equal(output[:, 0] > 0.5, target[:, 0] > 0.5)
        else:
            right = tf.equal(tf.argmax(output, axis=1), tf.argmax(target, axis=1))
        self._figures[1].update_state(tf.cast(right, tf.float32))
        return {metric.name: metric.result() for metric in self._figures}

    @classmethod
    def from_config(cls, saved: dict[str, Any]) -> Backprop:
        return build(from_saved(Config, saved["config"]))


def build(config: Config) -> Backprop:
    """784 -> 32 -> 16 -> 10 sigmoid units (`backprop_mlp`) or 784 -> 10 (`perceptron`), their gradients written out.

    Two classes have one output, O, for the second class; more have one output each.

    Input    image   float32 [b, h, w, c]  in [0, 1]
    Output   logits  float32 [b, num_classes], the logarithm of each output
    Weights  25,818 with hidden layers, 7,850 without, at 28×28×1 and 10 classes; 785 without at two classes
    Source   Rumelhart, Hinton, Williams 1986, "Learning representations by back-propagating errors";
             without hidden layers: Widrow, Hoff 1960, "Adaptive switching circuits"

    ValueError: an activation, output or error that is not known.
    """
    for name, known in (("activation", tuple(ACTIVATIONS)), ("output", OUTPUTS), ("error", ERRORS)):
        if (got := getattr(config, name)) not in known:
            raise ValueError(f'got {name} "{got}"; expected one of {", ".join(known)}')
    model = Backprop(config, name="backprop")
    # Keeps the learning rate, where schedules look for it; the step is the model's own.
    model.compile(optimizer=keras.optimizers.SGD(config.learning_rate), jit_compile=False)
    return model


def signatures(model: Backprop, config: Config, assets: Assets) -> dict[str, Signature]:
    """Those of image classifiers, and the backward pass of each image.

    gradients  image float32 [b, h, w, c] in [0, 1], target int64 [b], the id of a class ->
               output           float32 [b, outputs]          O
               error            float32 [b]                   E
               delta{n}         float32 [b, units]            ∂E/∂z of layer n, also ∂E/∂b of it
               weight_gradient1 float32 [b, h, w, c, units]   ∂E/∂W of the first layer, in the shape of the image
               weight_gradient{n}  float32 [b, inputs, units] ∂E/∂W of layer n
               image_gradient   float32 [b, h, w, c]          ∂E/∂x: how each pixel raises the error

    Gradients are those of the E of each image, not means over the batch.
    """
    shape = (config.height, config.width, config.channels)

    def explain(image: tf.Tensor, target: tf.Tensor) -> Tensors:
        outputs, _ = model.forward(image)
        targets = model.target(target)
        deltas = model.backward(outputs, targets)
        answer = {"output": outputs[-1], "error": model.error(outputs[-1], targets)}
        for n, (given, delta) in enumerate(zip(outputs[:-1], deltas, strict=True), 1):
            each = given[:, :, tf.newaxis] * delta[:, tf.newaxis, :]  # [b, inputs, units]
            answer[f"delta{n}"] = delta
            answer[f"weight_gradient{n}"] = tf.reshape(each, [-1, *shape, delta.shape[-1]]) if n == 1 else each
        pixels = deltas[0] @ tf.transpose(model.pairs[0].w.value)  # [b, h·w·c]
        return {**answer, "image_gradient": tf.reshape(pixels, [-1, *shape])}

    inputs = {
        "image": tf.TensorSpec([None, *shape], tf.float32, name="image"),
        "target": tf.TensorSpec([None], tf.int64, name="target"),
    }
    layers = range(1, len(config.units) + 2)
    names = ("output", "error", *(f"{what}{n}" for n in layers for what in ("delta", "weight_gradient")))
    gradients = Signature(Core("gradients", explain, inputs), (*names, "image_gradient"))
    return {**image_signatures(model, config, assets), "gradients": gradients}


NETWORKS = [
    Network(
        name="perceptron",
        task="classify",
        summary="One layer of sigmoid units, trained on squared error; its gradient is written out and served.",
        config=Config(units=(), learning_rate=0.5),
        build=build,
        signatures=signatures,
        example=example,
        parameters=7_850,
        tiny={"epochs": 1, "batch_size": 16},
        presets={
            "quick": {"epochs": 20, "batch_size": 32, "schedule": "cosine"},
            "full": {"epochs": 60, "batch_size": 32, "schedule": "cosine"},
        },
        source="Widrow, Hoff 1960, Adaptive switching circuits",
        claims=(accuracy(0.82, "fashion_mnist"),),
    ),
    Network(
        name="backprop_mlp",
        task="classify",
        summary="Layers of sigmoid units, trained by hand-written back-propagation; its gradients are served.",
        config=Config(),
        build=build,
        signatures=signatures,
        example=example,
        parameters=25_818,
        tiny={"units": (12, 8), "epochs": 1, "batch_size": 16},
        presets={
            "quick": {"epochs": 20, "batch_size": 32, "schedule": "cosine"},
            "full": {"epochs": 60, "batch_size": 32, "schedule": "cosine"},
        },
        source="Rumelhart, Hinton, Williams 1986, Learning representations by back-propagating errors, Nature 323",
        claims=(accuracy(0.84, "fashion_mnist"),),
    ),
]
