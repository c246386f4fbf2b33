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
from ladle.serving.scheduling.rows import RowView

_OCTETS = b"content-type: application/octet-stream\r\nInference-Header-Content-Length: %d\r\n"
_JSON = b"content-type: application/json\r\n"
Tensor = tuple[str, np.dtype[Any], tuple[int, ...]]
"""Name, dtype and shape."""


def write(
    model: str, version: int, request_id: str, outputs: Mapping[str, Array], binary: Collection[str]
) -> tuple[bytes, bytes]:
    """The body, and the lines of its content's headers."""
    if binary and len(binary) == len(outputs) and not request_id:
        return write_all(model, version, outputs)
    raw = {name: datatypes.pack(outputs[name]) for name in outputs if name in binary}
    parts = [_member(name, array, raw.get(name)) for name, array in outputs.items()]
    text = _join_head(model, version, request_id, parts)
    if not raw:
        return text, _JSON
    return b"".join([text, *raw.values()]), _OCTETS % len(text)


def write_all(model: str, version: int, outputs: Mapping[str, Array]) -> tuple[bytes, bytes]:
    """As `write`, with all outputs in binary and no id: what most requests ask for."""
    parts, sizes, forms = [b""], [], []
    for name, array in outputs.items():
        packed = datatypes.pack(array)
        parts.append(packed)
        sizes.append(len(packed))
        forms.append((name, array.dtype, array.shape))
    parts[0], lines = _binary_head(model, version, tuple(forms), tuple(sizes))
    return b"".join(parts), lines


def write_row(model: str, version: int, outputs: RowView) -> tuple[bytes, bytes]:
    """As `write` for one row of a merged run, all in binary: the first request writes the rows of the whole run."""
    if "binary" not in outputs.cache:
        outputs.cache["binary"] = _write_rows(model, version, outputs.whole)
    rows: list[tuple[bytes, bytes]] = outputs.cache["binary"]
    return rows[outputs.at]


def _write_rows(model: str, version: int, outputs: Mapping[str, Array]) -> list[tuple[bytes, bytes]]:
    forms = tuple([(name, array.dtype, (1, *array.shape[1:])) for name, array in outputs.items()])
    rows = []
    for packed in zip(*[_pack_rows(array) for array in outputs.values()], strict=True):
        text, lines = _binary_head(model, version, forms, tuple(map(len, packed)))
        rows.append((b"".join([text, *packed]), lines))
    return rows


def _pack_rows(array: Array) -> list[bytes]:
    """The raw bytes of each row."""
    if array.dtype.kind == "O":
        return [datatypes.pack(array[at : at + 1]) for at in range(len(array))]
    packed = array.tobytes()
    size = len(packed) // len(array)
    return [packed[at : at + size] for at in range(0, len(packed), size)] if size else [b""] * len(array)


@functools.lru_cache(maxsize=512)
def _binary_head(model: str, version: int, forms: Sequence[Tensor], sizes: Sequence[int]) -> tuple[bytes, bytes]:
    """The JSON part of an answer whose tensors all follow in binary, and the lines of its content's headers."""
    members = [
        _head(name, _datatype(name, dtype), shape, b'"parameters":{"binary_data_size":%d}' % size)
        for (name, dtype, shape), size in zip(forms, sizes, strict=True)
    ]
    text = _join_head(model, version, "", members)
    return text, _OCTETS % len(text)


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
