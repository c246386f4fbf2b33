"""Writes and reads the warm-up requests of a SavedModel: a TFRecord of tensorflow.serving.PredictionLog.

The messages belong to TensorFlow Serving and are not part of TensorFlow. Only nested length-delimited fields are
needed, so this module writes the wire format itself; a test compares it with the real messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import tensor_pb2

FILE = "assets.extra/tf_serving_warmup_requests"

Method = Literal["predict", "classify", "regress"]
_LOG: dict[Method, int] = {"classify": 2, "regress": 3, "predict": 6}
"""Field number of each method's log in PredictionLog; the request is field 1 of that log."""
METHODS = tuple(_LOG)


@dataclass(frozen=True)
class WarmUp:
    """A request that a server runs before it makes a version available.

    inputs  arrays by name; strings are object arrays of bytes. For classify and regress: serialized tf.Examples,
            string [b], under the name `inputs`
    """

    signature: str
    inputs: dict[str, np.ndarray]
    method: Method = "predict"


def write(path: Path, model: str, requests: Iterable[WarmUp]) -> None:
    """Write one record per request, addressed to the model of this name."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            writer.write(_encode(model, request))


def read(path: Path) -> list[WarmUp]:
    """The predict, classify and regress requests in a warm-up file; ValueError when the file is not one."""
    try:
        records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
        if not records and path.stat().st_size:  # too short for a record: TensorFlow takes it for the end
            raise ValueError("no record")
        return [request for record in records if (request := _decode(record)) is not None]
    except (tf.errors.OpError, DecodeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a TFRecord of PredictionLog") from error


def _encode(model: str, request: WarmUp) -> bytes:
    spec = _field(1, _field(1, model.encode()) + _field(3, request.signature.encode()))
    if request.method == "predict":
        content = b"".join(
            _field(2, _field(1, name.encode()) + _field(2, tf.make_tensor_proto(value).SerializeToString()))
            for name, value in request.inputs.items()
        )
    else:
        examples = b"".join(_field(1, example) for example in request.inputs["inputs"])
        content = _field(2, _field(1, examples))  # Input.example_list
    return _field(_LOG[request.method], _field(1, spec + content))


def _decode(record: bytes) -> WarmUp | None:
    log = dict(_fields(record))
    method = next((method for method, number in _LOG.items() if number in log), None)
    if method is None:
        return None
    content = list(_fields(dict(_fields(log[_LOG[method]])).get(1, b"")))
    signature = dict(_fields(dict(content).get(1, b""))).get(3, b"").decode() or "serving_default"
    if method == "predict":
        inputs = {}
        for entry in (dict(_fields(value)) for number, value in content if number == 2):
            tensor = tf.make_ndarray(tensor_pb2.TensorProto.FromString(entry[2]))
            inputs[entry[1].decode()] = tensor
        return WarmUp(signature, inputs)
    examples = [e for number, e in _fields(dict(_fields(dict(content).get(2, b""))).get(1, b"")) if number == 1]
    return WarmUp(signature, {"inputs": np.array(examples, dtype=object)}, method)


def _field(number: int, content: bytes) -> bytes:
    """Encode a length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a message, without the others. IndexError when it ends within a field."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        wire_type = tag & 7
        if wire_type == 0:
            _, at = _read_varint(message, at)
        elif wire_type in (1, 5):
            at += 8 if wire_type == 1 else 4
        elif wire_type == 2:
            size, at = _read_varint(message, at)
            yield tag >> 3, message[at : at + size]
            at += size
        else:
            raise IndexError(f"wire type {wire_type}")
    if at != len(message):
        raise IndexError("the message ends within a field")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
