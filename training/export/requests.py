"""Makes a request for a signature from inputs of its core, by running its steps backwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ladle.models import Signature
from ladle.training.store.samples import png

Arrays = Mapping[str, np.ndarray]
TEXT = "A good film, well told and never dull."
"""The default text in requests to networks that read text."""


def request(signature: Signature, core_inputs: Arrays, text: str = TEXT) -> dict[str, np.ndarray]:
    """Inputs of a signature that its steps turn into something like `core_inputs`.

    Images become PNG bytes and features become tf.Example. Steps that cannot be reversed get a stand-in: noise becomes
    its row count and a seed, token ids become `text`. String tensors are object arrays of bytes.
    """
    values = dict(core_inputs)
    for step in reversed(signature.before):
        described = step.described
        made = _BACKWARDS[described["op"]](described, values[described["output"]], text)
        if described["op"] == "parse_example" and described["input"] in values:
            # Each step reads one feature of the same tf.Example. Serialized messages that follow each other are merged.
            name = described["input"]
            made = {name: values[name] + made[name]}
        values |= made
    return {name: values[name] for name in signature.inputs}


def _image(step: dict[str, Any], value: np.ndarray, text: str) -> dict[str, np.ndarray]:
    pixels = np.rint(np.clip(value, 0, 1) * 255).astype(np.uint8)
    return {step["input"]: _strings(png(image) for image in pixels)}


def _text(step: dict[str, Any], value: np.ndarray, text: str) -> dict[str, np.ndarray]:
    return {step["input"]: _strings(text.encode() for _ in value)}


def _example(step: dict[str, Any], value: np.ndarray, text: str) -> dict[str, np.ndarray]:
    return {step["input"]: _strings(_serialized(step["feature"], row) for row in value)}


def _noise(step: dict[str, Any], value: np.ndarray, text: str) -> dict[str, np.ndarray]:
    return {step["count"]: np.array(len(value), np.int32), step["seed"]: np.array(1, np.int64)}


def columns(step: Mapping[str, Any], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Columns by name from rows [b, columns], as the step `stack_columns` takes them."""

    def column(name: str, numbers: np.ndarray) -> np.ndarray:
        names = [category.encode() for category in step["categories"][name]]
        if not names:
            return numbers.astype(np.float32)
        return _strings(names[int(number)] if number >= 0 else b"" for number in numbers)

    return {name: column(name, rows[:, i]) for i, name in enumerate(step["columns"])}


def _columns(step: dict[str, Any], value: np.ndarray, text: str) -> dict[str, np.ndarray]:
    return columns(step, value)


_BACKWARDS: dict[str, Callable[[dict[str, Any], np.ndarray, str], dict[str, np.ndarray]]] = {
    "decode_image": _image,
    "tokenize": _text,
    "parse_example": _example,
    "normal_noise": _noise,
    "stack_columns": _columns,
}


def _serialized(feature: str, row: Any) -> bytes:
    """A tf.Example with one feature."""
    flat = np.array(row, dtype=object if isinstance(row, bytes) else None).reshape(-1)
    if flat.dtype == object:
        kind = tf.train.Feature(bytes_list=tf.train.BytesList(value=flat.tolist()))
    elif np.issubdtype(flat.dtype, np.integer):
        kind = tf.train.Feature(int64_list=tf.train.Int64List(value=flat.tolist()))
    else:
        kind = tf.train.Feature(float_list=tf.train.FloatList(value=flat.tolist()))
    serialized: bytes = tf.train.Example(features=tf.train.Features(feature={feature: kind})).SerializeToString()
    return serialized


def _strings(values: Any) -> np.ndarray:
    return np.array(list(values), dtype=object)
