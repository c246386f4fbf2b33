"""Arrays to the JSON of REST answers: `predictions` by row, `outputs` by tensor, `results` of examples."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson

from serving.errors import InvalidArgument
from serving.saved_model import type_name

Array = np.ndarray[Any, np.dtype[Any]]

_WRITABLE = {"<f4", "<f8", "<i8", "<i4", "<i2", "|i1", "|u1", "<u4", "<u8", "|b1", "|O"}
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def write_predict(outputs: Mapping[str, Array], is_row: bool) -> bytes:
    """The answer to a request in row or columnar form; InvalidArgument for outputs that the form cannot hold."""
    for array in outputs.values():
        if array.dtype.str not in _WRITABLE:
            raise InvalidArgument(f"Failed to write JSON value for tensor type: {_type(array)}")
    if is_row:
        _check_rows(outputs)
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return b'{"%b": %b}\n' % (b"predictions" if is_row else b"outputs", _tensor(name, array))
    if not is_row:
        members = [b"%b: %b" % (orjson.dumps(name), _tensor(name, array)) for name, array in outputs.items()]
        return b'{"outputs": {%b}}\n' % b", ".join(members)
    return b'{"predictions": %b}\n' % _rows(outputs)


def _check_rows(outputs: Mapping[str, Array]) -> None:
    expected: int | None = None
    for name, array in outputs.items():
        if not array.ndim:
            raise InvalidArgument(f"Tensor name: {name} has no shape information ")
        if expected is None:
            expected = len(array)
        elif len(array) != expected:
            raise InvalidArgument(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {expected}"
            )


def _rows(outputs: Mapping[str, Array]) -> bytes:
    names = list(outputs)
    columns = [_elements(name, array) for name, array in outputs.items()]
    try:
        text: bytes = orjson.dumps(
            [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)], option=_NUMPY
        )
        if b"null" not in text:
            return text
    except (TypeError, orjson.JSONEncodeError):
        pass  # strings that are not UTF-8
    count = len(columns[0])
    return b"[%b]" % b", ".join(
        b"{%b}" % b", ".join(b"%b: %b" % (orjson.dumps(n), _tensor(n, a[i])) for n, a in outputs.items())
        for i in range(count)
    )


def _elements(name: str, array: Array) -> Any:
    """The rows of a tensor as orjson takes them: it knows no NumPy number of the C type long long."""
    if array.dtype == object:
        return _strings(name, array)
    return array.tolist() if array.ndim == 1 and array.dtype.kind != "f" else np.ascontiguousarray(array)


def _tensor(name: str, array: Any) -> bytes:
    """A tensor as nested lists. Not finite numbers and strings of any bytes included."""
    if isinstance(array, bytes) or array.dtype == object:
        values = _strings(name, np.asarray(array, object))
        try:
            text: bytes = orjson.dumps(values)
        except (TypeError, orjson.JSONEncodeError):
            return _raw_strings(values)
        return text
    if array.ndim:
        text = orjson.dumps(np.ascontiguousarray(array), option=_NUMPY)
    else:
        text = orjson.dumps(array[()] if array.dtype.kind == "f" else array.item(), option=_NUMPY)
    return text if b"null" not in text else _floats(array.tolist())


def _strings(name: str, array: Array) -> Any:
    """Nested lists of text, or of {"b64": ...} where the name ends in `_bytes`."""
    is_base64 = name.endswith("_bytes")

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return [convert(element) for element in value]
        data = value.encode() if isinstance(value, str) else value
        return {"b64": base64.b64encode(data).decode()} if is_base64 else data.decode("utf-8", "surrogateescape")

    return convert(array.tolist())


def _raw_strings(value: Any) -> bytes:
    """Text with bytes that are not UTF-8 as they are; only quotes, backslashes and control characters escaped."""
    if isinstance(value, list):
        return b"[%b]" % b",".join(map(_raw_strings, value))
    escaped = "".join(f"\\{c}" if c in '"\\' else f"\\u{ord(c):04x}" if c < " " else c for c in value)
    return b'"%b"' % escaped.encode("utf-8", "surrogateescape")


def _floats(value: Any) -> bytes:
    if isinstance(value, list):
        return b"[%b]" % b",".join(map(_floats, value))
    if value != value:
        return b"NaN"
    if value in (float("inf"), float("-inf")):
        return b"Infinity" if value > 0 else b"-Infinity"
    return repr(value).encode()


def write_results(results: Iterable[Any]) -> bytes:
    """`{"results": [...]}` of Classify ([label, score] pairs by example) and Regress (numbers)."""
    rows = list(results)
    text: bytes = orjson.dumps(rows, option=_NUMPY)
    return b'{"results": %b}\n' % text


def _type(array: Array) -> str:
    from clients.wire import tensors

    return type_name(tensors.dtype_of(array).number)
