"""Writes the answer to an infer request: outputs as JSON, or their bytes behind a JSON part that describes them."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument
from ladle.serving.open_inference import datatypes
from ladle.serving.rest.json.response import write_string, write_tensor

_OCTETS = b"content-type: application/octet-stream\r\nInference-Header-Content-Length: %d\r\n"
_JSON = b"content-type: application/json\r\n"


def write(
    model: str, version: int, request_id: str, outputs: Mapping[str, Array], binary: Collection[str]
) -> tuple[bytes, bytes]:
    """The body, and the lines of its content's headers."""
    raw = {name: datatypes.pack(outputs[name]) for name in outputs if name in binary}
    if len(raw) == len(outputs) and not request_id:
        form = [(name, array.dtype, array.shape, len(raw[name])) for name, array in outputs.items()]
        text = _binary_head(model, version, tuple(form))
    else:
        parts = [_member(name, array, raw.get(name)) for name, array in outputs.items()]
        text = _join_head(model, version, request_id, parts)
    if not raw:
        return text, _JSON
    return b"".join([text, *raw.values()]), _OCTETS % len(text)


@functools.lru_cache(maxsize=512)
def _binary_head(model: str, version: int, form: Sequence[tuple[str, np.dtype[Any], tuple[int, ...], int]]) -> bytes:
    members = [
        _head(name, _datatype(name, dtype), shape, b'"parameters":{"binary_data_size":%d}' % size)
        for name, dtype, shape, size in form
    ]
    return _join_head(model, version, "", members)


def _join_head(model: str, version: int, request_id: str, members: Sequence[bytes]) -> bytes:
    named = b'"id":%b,' % orjson.dumps(request_id) if request_id else b""
    start = b'{"model_name":%b,"model_version":"%d",%b' % (orjson.dumps(model), version, named)
    return start + b'"outputs":[%b]}' % b",".join(members)


def _member(name: str, array: Array, raw: bytes | None) -> bytes:
    if raw is not None:
        return _head(
            name, _datatype(name, array.dtype), array.shape, b'"parameters":{"binary_data_size":%d}' % len(raw)
        )
    return _head(name, _datatype(name, array.dtype), array.shape, b'"data":' + _to_json(name, array))


def _head(name: str, datatype: str, shape: tuple[int, ...], rest: bytes) -> bytes:
    start = b'{"name":%b,"datatype":"%b","shape":%b,' % (orjson.dumps(name), datatype.encode(), orjson.dumps(shape))
    return start + rest + b"}"


def _datatype(name: str, dtype: np.dtype[Any]) -> str:
    found = datatypes.name_of(dtype)
    if not found:
        raise InvalidArgument(f'the output "{name}" is {dtype}, which the protocol cannot carry; ask for another')
    return found


def _to_json(name: str, array: Array) -> bytes:
    """The elements as one flat list."""
    if array.dtype.kind == "O":
        texts = datatypes.strings_of(array)
        try:
            for text in texts:
                text.decode()
        except UnicodeDecodeError:
            raise InvalidArgument(
                f'the output "{name}" holds bytes that are no text; ask for it with the parameter binary_data'
            ) from None
        return b"[%b]" % b",".join([write_string(text) for text in texts])
    if array.dtype == np.float16 or array.dtype == tensors.BFLOAT16:
        array = tensors.widen(array).astype(np.float32)
    return write_tensor(name, array.reshape(-1))
