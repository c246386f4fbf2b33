"""EfficientNet-Lite0 without its last layer: the convolutional base of `efficientnet_lite0` and `transfer`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ladle.models._blocks import seeds

MEAN, SCALE = 127.0, 128.0
"""Pixels 0 to 255 become (pixel - MEAN) / SCALE, as in the training of the published weights."""
STEM, FEATURES = 32, 1280
"""Filters of the first and of the last convolution; the Lite networks do not scale them with width."""


@dataclass(frozen=True)
class Stage:
    """Blocks of one width.

    filters  output filters of each block
    expand   factor by which a block is wider inside
    kernel   size of the depthwise kernel
    stride   stride of the first block
    """

    filters: int
    expand: int
    kernel: int
    stride: int


STAGES = (
    Stage(16, 1, 3, 1),
    Stage(24, 6, 3, 2),
    Stage(40, 6, 5, 2),
    Stage(80, 6, 3, 2),
    Stage(112, 6, 5, 1),
    Stage(192, 6, 5, 2),
    Stage(320, 6, 3, 1),
)
REPEATS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage."""


def base(seed: int, width: float = 1.0, repeats: tuple[int, ...] = REPEATS) -> keras.Model:
    """Inverted residual bottlenecks with depthwise convolutions and ReLU6, without squeeze-and-excitation.

    Input    image     float32 [b, h, w, 3]  in [0, 1]; any height and width
    Output   features  float32 [b, ceil(h / 32), ceil(w / 32), 1280 · width]
    Weights  3,413,024 at width=1
    Source   Tan, Le 2019, arXiv:1905.11946, and the EfficientNet-Lite release of its authors (2020)

    `width` multiplies all filters. A shorter `repeats` leaves out the last stages. Padding is TensorFlow's 'same', as
    in the training of the published weights.
    """
    layers = _Layers(seeds(seed))
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(255.0 / SCALE, -MEAN / SCALE, name="scale")(image)
    x = layers.unit(x, _wide(STEM, width), 3, 2, "stem")
    n = 0
    for stage, count in zip(STAGES, repeats, strict=False):
        for i in range(count):
            n += 1
            x = layers.block(x, stage, _wide(stage.filters, width), stage.stride if i == 0 else 1, f"block{n}")
    x = layers.unit(x, _wide(FEATURES, width), 1, 1, "head")
    return keras.Model(image, x, name="efficientnet_lite0")


def restore(model: keras.Model, tensors: Mapping[str, np.ndarray]) -> None:
    """Load the published weights into a base.

    tensors  by their names in the PyTorch port, kernels [out, in, h, w]

    ValueError names the first tensor that is missing or has another shape.
    """
    for name, prefix in names(model):
        layer = model.get_layer(name)
        norm = isinstance(layer, keras.layers.BatchNormalization)
        parts = ("weight", "bias", "running_mean", "running_var") if norm else ("weight",)
        for variable, part in zip(layer.variables, parts, strict=True):
            assign(variable, tensors, f"{prefix}.{part}", isinstance(layer, keras.layers.DepthwiseConv2D))


def assign(variable: Any, tensors: Mapping[str, np.ndarray], name: str, depthwise: bool = False) -> None:
    """Set a variable to a tensor, with axes permuted from PyTorch's order to Keras's; ValueError if it does not fit."""
    if name not in tensors:
        raise ValueError(f"no tensor {name} among {len(tensors)}; these weights are for another network")
    value = np.asarray(tensors[name])
    # PyTorch has kernels [out, in, h, w], and depthwise ones [channels, 1, h, w]; Keras [h, w, in, out] and
    # [h, w, channels, 1].
    if value.ndim == 4:
        value = value.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
    elif value.ndim == 2:
        value = value.T
    if value.shape != tuple(variable.shape):
        raise ValueError(
            f"{name} has shape {list(value.shape)}; expected {list(variable.shape)}: these weights are for another size"
        )
    variable.assign(value.astype(np.float32))


def _wide(filters: int, width: float) -> int:
    """Filters times width, rounded to a multiple of 8, at least 8."""
    return filters if width == 1 else max(8, round(filters * width / 8) * 8)


def names(model: keras.Model) -> Iterator[tuple[str, str]]:
    """Pairs of a layer with weights and its name in the PyTorch port."""
    inner = {
        "expand": ("_expand_conv", "_bn0"),
        "depth": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    outer = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for layer in model.layers:
        if not layer.weights:
            continue
        *block, unit, kind = layer.name.split("_")
        name = (inner if block else outer)[unit][kind == "norm"]
        yield layer.name, f"_blocks.{int(block[0].removeprefix('block')) - 1}.{name}" if block else name


class _Layers:
    """Makes layers whose initial weights come from one sequence of seeds."""

    def __init__(self, seed: Iterator[int]) -> None:
        self._seed = seed

    def norm(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        # epsilon belongs to the published weights: another one would change every output.
        return keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)

    def unit(
        self, x: keras.KerasTensor, filters: int, size: int, stride: int, name: str, active: bool = True
    ) -> keras.KerasTensor:
        """Convolution, batch normalisation, ReLU6."""
        settings: dict[str, Any] = {"padding": "same", "use_bias": False, "name": f"{name}_conv"}
        settings["kernel_initializer"] = keras.initializers.HeNormal(next(self._seed))
        x = self.norm(keras.layers.Conv2D(filters, size, stride, **settings)(x), f"{name}_norm")
        return keras.layers.ReLU(6.0, name=f"{name}_relu")(x) if active else x

    def block(self, x: keras.KerasTensor, stage: Stage, filters: int, stride: int, name: str) -> keras.KerasTensor:
        """Inverted residual block: widen by 1×1, convolve by depth, narrow by 1×1; a shortcut if shapes allow it."""
        y = x
        if stage.expand > 1:
            y = self.unit(y, stage.expand * x.shape[-1], 1, 1, f"{name}_expand")
        kernel = keras.initializers.HeNormal(next(self._seed))
        settings: dict[str, Any] = {"padding": "same", "use_bias": False, "name": f"{name}_depth_conv"}
        y = keras.layers.DepthwiseConv2D(stage.kernel, stride, depthwise_initializer=kernel, **settings)(y)
        y = keras.layers.ReLU(6.0, name=f"{name}_depth_relu")(self.norm(y, f"{name}_depth_norm"))
        y = self.unit(y, filters, 1, 1, f"{name}_project", active=False)
        return keras.layers.Add(name=f"{name}_add")([x, y]) if y.shape == x.shape and stride == 1 else y
