"""Layers of the convolutional families, with seeded initial weights and stable names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Penalty:
    """Regularisation term of a weight in the loss: l1·Σ|w| + l2·Σw²."""

    l1: float = 0.0
    l2: float = 0.0

    def regularizer(self) -> keras.regularizers.Regularizer | None:
        """The Keras regularizer; None if both factors are 0."""
        if self.l1:
            return keras.regularizers.L1L2(self.l1, self.l2)
        return keras.regularizers.L2(self.l2) if self.l2 else None


FREE = Penalty()
"""No regularisation."""


class Layers:
    """Makes layers that draw their initial weights from one sequence of seeds."""

    def __init__(self, seed: Iterator[int]) -> None:
        self._seed = seed

    def conv(
        self, x: keras.KerasTensor, filters: int, size: int, name: str, stride: int = 1, bias: bool = False
    ) -> keras.KerasTensor:
        """Convolution, to be followed by a ReLU; [b, h, w, c] -> [b, ceil(h / stride), ceil(w / stride), filters].

        No bias by default: the batch normalisation that usually follows has its own.
        """
        # He initialisation keeps the variance of activations through ReLU (He et al. 2015, arXiv:1502.01852).
        kernel = keras.initializers.HeNormal(next(self._seed))
        conv = keras.layers.Conv2D(
            filters, size, stride, padding="same", use_bias=bias, kernel_initializer=kernel, name=name
        )
        return conv(x)

    def norm(self, x: keras.KerasTensor, name: str, gamma: str = "ones") -> keras.KerasTensor:
        """Batch normalisation with momentum 0.9; `gamma` is the initializer of the scale."""
        # The averages settle within about 50 steps. Keras's default of 0.99 needs 500: more than a short run has.
        return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, gamma_initializer=gamma, name=name)(x)

    def unit(self, x: keras.KerasTensor, filters: int, size: int, name: str, stride: int = 1) -> keras.KerasTensor:
        """Convolution, batch normalisation, ReLU: layers `<name>_conv`, `<name>_norm`, `<name>_relu`."""
        x = self.norm(self.conv(x, filters, size, f"{name}_conv", stride), f"{name}_norm")
        return keras.layers.ReLU(name=f"{name}_relu")(x)

    def dense(
        self, x: keras.KerasTensor, units: int, name: str, kernel: Penalty = FREE, bias: Penalty = FREE
    ) -> keras.KerasTensor:
        """Dense layer with ReLU; [b, d] -> [b, units]. `kernel` and `bias` regularise the two weights."""
        drawn = keras.initializers.HeNormal(next(self._seed))
        held = {"kernel_regularizer": kernel.regularizer(), "bias_regularizer": bias.regularizer()}
        return keras.layers.Dense(units, activation="relu", kernel_initializer=drawn, **held, name=name)(x)

    def dropout(self, x: keras.KerasTensor, share: float, name: str) -> keras.KerasTensor:
        """Dropout of a share of `x` in training; no layer is added if the share is 0."""
        return keras.layers.Dropout(share, seed=next(self._seed), name=name)(x) if share else x

    def logits(
        self, x: keras.KerasTensor, classes: int, kernel: Penalty = FREE, bias: Penalty = FREE
    ) -> keras.KerasTensor:
        """The last layer, [b, d] -> [b, classes]."""
        # float32 also under mixed precision: float16 logits are too coarse for softmax and cross-entropy.
        drawn = keras.initializers.GlorotUniform(next(self._seed))
        held = {"kernel_regularizer": kernel.regularizer(), "bias_regularizer": bias.regularizer()}
        return keras.layers.Dense(classes, kernel_initializer=drawn, **held, dtype="float32", name="logits")(x)
