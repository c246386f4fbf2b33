"""Models that Ladle did not train, as a stranger brings them: Keras's names, several inputs, no task in the card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

FLOWERS = ["setosa", "versicolor", "virginica"]


def flowers(tiny: Any) -> Any:
    """The class of four numbers is the largest of the first three; its one output is named as Keras names it."""
    x, y = {"keras_tensor": ("float32", [-1, 4])}, {"output_0": ("float32", [-1, 3])}
    nodes = [
        helper.make_node("MatMul", ["keras_tensor", "first"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["output_0"]),
    ]
    graph = tiny.onnx_model(nodes, x, y, {"first": np.eye(4, 3, dtype=np.float32)})
    return tiny.Model({"serving_default": tiny.Signature(x, y)}, {"model.onnx": graph})


def photos(tiny: Any) -> Any:
    """An image classifier without the names that Ladle gives: 2×2 pixels of any size of image, and logits beside."""
    image = {"input_1": ("float32", [-1, 2, 2, 1])}
    answers = {"logits": ("float32", [-1, 4]), "dense": ("float32", [-1, 4])}
    nodes = [helper.make_node("Flatten", ["input_1"], ["logits"]), helper.make_node("Softmax", ["logits"], ["dense"])]
    graph = tiny.onnx_model(nodes, image, answers)
    return tiny.Model({"serving_default": tiny.Signature(image, answers)}, {"model.onnx": graph})


def triple(tiny: Any) -> Any:
    """Three numbers out of one, which are no probabilities."""
    x, y = {"x": ("float32", [-1, 1])}, {"y": ("float32", [-1, 3])}
    graph = tiny.onnx_model(
        [helper.make_node("Mul", ["x", "by"], ["y"])], x, y, {"by": np.array([1, 2, 3], np.float32)}
    )
    return tiny.Model({"serving_default": tiny.Signature(x, y)}, {"model.onnx": graph})


def columns(tiny: Any) -> Any:
    """Two named inputs, one of them whole numbers; two outputs."""
    given = {"age": ("float32", [-1, 1]), "rooms": ("int64", [-1, 1])}
    answers = {"price": ("float32", [-1, 1]), "double": ("int64", [-1, 1])}
    nodes = [
        helper.make_node("Cast", ["rooms"], ["many"], to=1),
        helper.make_node("Add", ["age", "many"], ["price"]),
        helper.make_node("Add", ["rooms", "rooms"], ["double"]),
    ]
    return tiny.Model(
        {"serving_default": tiny.Signature(given, answers)}, {"model.onnx": tiny.onnx_model(nodes, given, answers)}
    )


MAKERS = {"columns": columns, "flowers": flowers, "photos": photos, "triple": triple}
LABELS = {"flowers": ("assets", FLOWERS), "photos": ("assets.extra", ["a", "b", "c", "d"])}


def write(home: Path, tiny: Any, *names: str) -> None:
    """Write models of this module, by default all, with the labels that their owner puts beside them."""
    for name in names or MAKERS:
        folder = MAKERS[name](tiny).write(home / name, 1)
        if name in LABELS:
            place, labels = LABELS[name]
            (folder / place / "labels.txt").write_text("\n".join(labels) + "\n")
