"""JSON bodies of REST classify and regress to serialized tf.Example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ladle.clients.wire import messages as pb
from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument
from ladle.serving.rest.json.text import parse_object, quote, read_signature_name
from ladle.serving.rest.json.values import decode_base64, is_base64, type_of
from ladle.serving.servables.examples import check_count
from ladle.serving.servables.host.limits import most_numbered, too_many

_INT64 = 2**63


@dataclass(frozen=True)
class ExamplesBody:
    """The signature's name, "" without one, and the serialized tf.Examples, bytes [n], with the context in each."""

    signature_name: str
    serialized: Array

    async def read(self) -> Array:
        """The examples, as the core asks for them."""
        return self.serialized


def read_examples(body: bytes, method: str, max_depth: int = 0, max_bytes: int = 2**26) -> ExamplesBody:
    """Reads a body; InvalidArgument in TensorFlow Serving's words.

    method     `classify` or `regress`
    max_depth  of nested lists and objects; 0: any
    max_bytes  of all examples with the context in each: a small body can ask for a large copy many times over
    """
    most = most_numbered(max_bytes)
    if len(body) > most and (objects := body.count(b"{")) > most:
        raise too_many(objects, max_bytes)
    document = parse_object(body, max_depth)
    name = read_signature_name(document)
    context = _example(document["context"]) if "context" in document else b""
    if "examples" not in document:
        raise InvalidArgument(
            f"JSON Value: {quote(document)} When method is {method}, key 'examples' is expected and was not found"
        )
    rows = document["examples"]
    if not isinstance(rows, list):
        raise InvalidArgument(f"JSON Value: {quote(rows)} Expecting 'examples' value to be an list/array")
    if not rows:
        raise InvalidArgument(f"JSON Value: {quote(rows)} 'examples' value is an empty array")
    check_count(len(rows), max_bytes)
    if len(context) * len(rows) > max_bytes:
        raise InvalidArgument(
            f"The context, merged into {len(rows)} examples, makes more than {max_bytes} bytes; send fewer examples"
        )
    serialized = np.empty(len(rows), object)
    # Protobuf merges messages whose bytes stand one after the other, so the context need not be parsed again.
    serialized[:] = [context + _example(row) for row in rows]
    return ExamplesBody(name, serialized)


def _example(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise InvalidArgument(f"Example must be JSON object but got JSON {type_of(value)}")
    example = pb.Example()
    for name, held in value.items():
        try:
            feature = example.features.feature[name]
        except UnicodeEncodeError:
            raise InvalidArgument("A feature's name is not UTF-8 text") from None
        _fill_feature(feature, name, held if isinstance(held, list) else [held])
    serialized: bytes = example.SerializeToString()
    return serialized


def _fill_feature(feature: Any, name: str, values: list[Any]) -> None:
    kind = ""
    for value in values:
        found = _kind(name, value)
        kind = kind or found
        if found != kind:
            raise InvalidArgument(f"Unexpected element type in feature: {name} expecting type: {kind}")
    if kind == "float":
        feature.float_list.value.extend(values)
    elif kind == "int64":
        feature.int64_list.value.extend([int(value) for value in values])
    elif kind == "bytes":
        feature.bytes_list.value.extend([_bytes(value) for value in values])


def _kind(name: str, value: Any) -> str:
    if isinstance(value, float):
        return "float"
    if isinstance(value, int):
        if not -_INT64 <= value < _INT64:
            raise InvalidArgument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        return "int64"
    if isinstance(value, str) or is_base64(value):
        return "bytes"
    raise InvalidArgument(f"Feature: {name} has element with unexpected JSON type: {type_of(value)}")


def _bytes(value: str | Mapping[str, Any]) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else decode_base64(dict(value))
