"""Arrays to the JSON of REST answers: `predictions` by row, `outputs` by tensor, `results` of examples."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import orjson

from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument
from ladle.serving.rest.json import numbers
from ladle.serving.scheduling.batch import RowView
from ladle.serving.servables.saved_model import type_name

_WRITABLE = {"<f4", "<f8", "<i8", "<i4", "<i2", "|i1", "|u1", "<u4", "<u8", "|b1", "|O"}
_FEW = 16  # elements: as Python values they are written sooner
_PLAIN = bytes(code for code in range(32, 127) if code not in b'"\\')
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def write_predict(outputs: Mapping[str, Array], is_row: bool) -> bytes:
    """The answer to a request in row or columnar form; InvalidArgument for outputs that the form cannot hold."""
    if is_row and isinstance(outputs, RowView):
        texts = _texts(outputs)
        if texts is not None:
            return b'{"predictions": [%b]}\n' % texts[outputs.at]
    _check_dtypes(outputs)
    if is_row:
        _check_rows(outputs)
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return b'{"%b": %b}\n' % (b"predictions" if is_row else b"outputs", _tensor(name, array))
    if not is_row:
        members = [_key(name) + _tensor(name, array) for name, array in outputs.items()]
        return b'{"outputs": {%b}}\n' % b", ".join(members)
    if all(len(array) == 1 for array in outputs.values()):
        members = [_key(name) + _tensor(name, array)[1:-1] for name, array in outputs.items()]
        return b'{"predictions": [{%b}]}\n' % b", ".join(members)
    return b'{"predictions": [%b]}\n' % b", ".join(_objects(outputs))


def _texts(outputs: RowView) -> Sequence[bytes] | None:
    """The text of each row of the merged run; None where it is not worth it."""
    made = outputs.cache
    if "texts" not in made:
        # float64 is written number by number in any case
        together = outputs.is_small() and all(array.dtype.str != "<f8" for array in outputs.whole.values())
        made["texts"] = _predictions(outputs.whole) if together else None
    texts: Sequence[bytes] | None = made["texts"]
    return texts


def _predictions(outputs: Mapping[str, Array]) -> Sequence[bytes]:
    """The text of each row of all outputs together."""
    _check_dtypes(outputs)
    _check_rows(outputs)
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return _rows(name, array)
    return _objects(outputs)


def _objects(outputs: Mapping[str, Array]) -> list[bytes]:
    floats = {name: array for name, array in outputs.items() if array.dtype.str == "<f4"}
    texts = dict(zip(floats, numbers.write_each(list(floats.values())), strict=True))
    columns = [_rows(name, array, texts.get(name)) for name, array in outputs.items()]
    row = b"{%b}" % b", ".join(_key(name).replace(b"%", b"%%") + b"%b" for name in outputs)
    return [row % values for values in zip(*columns, strict=True)]


@lru_cache(maxsize=4096)
def _key(name: str) -> bytes:
    return orjson.dumps(name) + b": "


def _check_dtypes(outputs: Mapping[str, Array]) -> None:
    for array in outputs.values():
        if array.dtype.str not in _WRITABLE:
            number = tensors.dtype_of(array).number
            raise InvalidArgument(f"Failed to write JSON value for tensor type: {type_name(number)}")


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


def _tensor(name: str, array: Array) -> bytes:
    """A tensor as nested lists, or one value."""
    if array.dtype.kind == "f":
        return numbers.write(array)
    if array.dtype == object:
        return numbers.nest(_strings(name, array), array.shape)
    if array.size <= _FEW:
        return orjson.dumps(array.tolist())
    # orjson knows NumPy's types by their sizes, and no number of the C type long long
    known = np.ascontiguousarray(array, dtype=array.dtype.str)
    return orjson.dumps(known, option=orjson.OPT_SERIALIZE_NUMPY)


def _rows(name: str, array: Array, text: bytes | None = None) -> Sequence[bytes]:
    """The text of each row of a tensor of rank 1 or more; `text`: that of the tensor, where it is there already."""
    if array.ndim == 1 and array.dtype == object:
        return _strings(name, array)
    if text is None:
        text = _tensor(name, array)
    if array.ndim == 1:
        return text[1:-1].split(b",") if len(array) else []
    if array.dtype == object or not array.size:
        return [_tensor(name, row) for row in array]
    closed, opened = b"]" * (array.ndim - 1), b"[" * (array.ndim - 1)
    rows = text[array.ndim : -array.ndim].split(closed + b"," + opened)
    return [b"%b%b%b" % (opened, row, closed) for row in rows]


def _strings(name: str, array: Array) -> list[bytes]:
    """The elements as JSON strings, or as {"b64": ...} where the name ends in `_bytes`."""
    write: Callable[[bytes], bytes] = _base64 if name.endswith("_bytes") else write_string
    return [write(value.encode() if isinstance(value, str) else value) for value in array.ravel().tolist()]


def _base64(data: bytes) -> bytes:
    return b'{"b64": "%b"}' % base64.b64encode(data)


def write_string(data: bytes) -> bytes:
    """Text as a JSON string: bytes that are no UTF-8 stay; quotes, backslashes and control characters are escaped."""
    if not data.translate(None, _PLAIN):
        return b'"%b"' % data
    text = data.decode("utf-8", "surrogateescape")
    escaped = _ESCAPED.sub(lambda m: _ESCAPES.get(m[0]) or f"\\u{ord(m[0]):04X}", text)
    return b'"%b"' % escaped.encode("utf-8", "surrogateescape")


def write_classes(pairs: Iterable[tuple[Sequence[bytes], Sequence[float]]]) -> bytes:
    """`{"results": [[["label", score], ...], ...]}`; labels and float32 scores of each example in turn."""
    examples = [
        b"[%b]"
        % b",".join(
            b"[%b,%b]" % (write_string(label), numbers.text_of(score))
            for label, score in zip(labels, scores, strict=True)
        )
        for labels, scores in pairs
    ]
    return b'{"results": [%b]}\n' % b",".join(examples)


def write_values(values: Array) -> bytes:
    """`{"results": [...]}` of Regress; float32 [n]."""
    return b'{"results": %b}\n' % numbers.write(values)
