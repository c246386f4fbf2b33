"""Arrays to the JSON of REST answers: `predictions` by row, `outputs` by tensor, `results` of examples."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import orjson

from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument
from ladle.serving.rest.json import numbers
from ladle.serving.scheduling.rows import RowView
from ladle.serving.servables.saved_model import type_name

_WRITABLE_DTYPES = {np.dtype(name) for name in ("<f4", "<f8", "<i8", "<i4", "<i2", "i1", "u1", "<u4", "<u8", "?", "O")}
Layout = tuple[bytes, Sequence[Callable[[Array], bytes] | None]]
"""The answer with a `%b` for the values of each output, and what writes them; None: float32 numbers."""
_FEW = 16  # elements; up to here orjson writes a Python list sooner than it sets up NumPy's
_UNESCAPED = bytes(code for code in range(32, 127) if code not in b'"\\')
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def write_predict(outputs: Mapping[str, Array], is_row: bool) -> bytes:
    """The answer in row or columnar format; InvalidArgument for outputs that the format cannot hold.

    One output stands for itself; several are objects, by name: TensorFlow Serving's two layouts.
    """
    if is_row and type(outputs) is RowView:
        texts = _merged_texts(outputs)
        if texts is not None:
            return b'{"predictions": [%b]}\n' % texts[outputs.at]
    elif is_row:
        layout = _layout(tuple([(name, array.dtype, array.shape) for name, array in outputs.items()]))
        if layout is not None:
            template, writers = layout
            pairs = list(zip(writers, outputs.values(), strict=True))
            floats = iter(numbers.write_flat([array for write, array in pairs if write is None]))
            return template % tuple([next(floats) if write is None else write(array) for write, array in pairs])
    _check_dtypes(outputs)
    rows = _count_rows(outputs) if is_row else 0
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return b'{"%b": %b}\n' % (b"predictions" if is_row else b"outputs", write_tensor(name, array))
    texts = _tensors(outputs)
    if not is_row:
        members = [_key(name) + text for name, text in zip(outputs, texts, strict=True)]
        return b'{"outputs": {%b}}\n' % b", ".join(members)
    if rows == 1:
        members = [_key(name) + text[1:-1] for name, text in zip(outputs, texts, strict=True)]
        return b'{"predictions": [{%b}]}\n' % b", ".join(members)
    return b'{"predictions": [%b]}\n' % b", ".join(_objects(outputs, texts))


@lru_cache(maxsize=1024)
def _layout(outputs: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]) -> Layout | None:
    """How one row of few values is written; None for other answers. Most requests have one row."""
    members: list[tuple[str, bytes]] = []
    writers: list[Callable[[Array], bytes] | None] = []
    for name, dtype, shape in outputs:
        inner = shape[1:]
        if shape[:1] != (1,) or len(inner) > 1 or dtype not in _WRITABLE_DTYPES:
            return None
        if dtype.char == "f" and 0 < math.prod(inner) <= numbers.FEW:
            writers.append(None)
        elif dtype.kind in "iu" and not inner:
            writers.append(_integer)
        elif dtype.kind == "O" and not inner:
            writers.append(partial(_string, name))
        else:
            return None
        members.append((name, b"[%b]" if inner else b"%b"))
    if len(members) == 1:
        row = members[0][1]
    else:
        row = b"{%b}" % b", ".join([_key(name).replace(b"%", b"%%") + value for name, value in members])
    return b'{"predictions": [%b]}\n' % row, writers


def _integer(array: Array) -> bytes:
    return b"%d" % array.item()


def _string(name: str, array: Array) -> bytes:
    return _strings(name, array)[0]


def _merged_texts(outputs: RowView) -> Sequence[bytes] | None:
    """The text of each row of the merged run, written once for all its requests; None where that saves nothing."""
    cache = outputs.cache
    if "texts" not in cache:
        # float64 is written number by number, together or alone
        saves_time = outputs.is_small() and all(array.dtype.char != "d" for array in outputs.whole.values())
        cache["texts"] = _predictions(outputs.whole) if saves_time else None
    texts: Sequence[bytes] | None = cache["texts"]
    return texts


def _predictions(outputs: Mapping[str, Array]) -> Sequence[bytes]:
    """The text of each row: of the one output, or an object of all."""
    _check_dtypes(outputs)
    _count_rows(outputs)
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return _rows(name, array)
    return _objects(outputs, _tensors(outputs))


def _objects(outputs: Mapping[str, Array], texts: Sequence[bytes]) -> list[bytes]:
    """An object for each row; `texts` are those of the tensors."""
    columns = [_rows(name, array, text) for (name, array), text in zip(outputs.items(), texts, strict=True)]
    row = b"{%b}" % b", ".join(_key(name).replace(b"%", b"%%") + b"%b" for name in outputs)
    return [row % values for values in zip(*columns, strict=True)]


@lru_cache(maxsize=4096)
def _key(name: str) -> bytes:
    return orjson.dumps(name) + b": "


def _check_dtypes(outputs: Mapping[str, Array]) -> None:
    for array in outputs.values():
        if array.dtype not in _WRITABLE_DTYPES:
            number = tensors.dtype_of(array).number
            raise InvalidArgument(f"Failed to write JSON value for tensor type: {type_name(number)}")


def _count_rows(outputs: Mapping[str, Array]) -> int:
    """The rows that all outputs have; InvalidArgument when they differ or an output has none."""
    rows = -1
    for name, array in outputs.items():
        if not array.ndim:
            raise InvalidArgument(f"Tensor name: {name} has no shape information ")
        if rows < 0:
            rows = len(array)
        elif len(array) != rows:
            raise InvalidArgument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {rows}")
    return rows


def _tensors(outputs: Mapping[str, Array]) -> list[bytes]:
    """The text of each tensor. Those of float32 are written together, and share the overhead of NumPy's calls."""
    texts = numbers.write_each([array for array in outputs.values() if array.dtype.char == "f" and array.ndim])
    texts.reverse()
    return [
        texts.pop() if array.dtype.char == "f" and array.ndim else write_tensor(name, array)
        for name, array in outputs.items()
    ]


def write_tensor(name: str, array: Array) -> bytes:
    """A tensor as nested lists; a scalar as one value."""
    if array.dtype.kind == "f":
        return numbers.write(array)
    if array.dtype == object:
        strings = _strings(name, array)
        return b"[%b]" % b",".join(strings) if array.ndim == 1 else numbers.nest(strings, array.shape)
    if array.size <= _FEW:
        return orjson.dumps(array.tolist())
    # orjson refuses the C type long long, which NumPy has beside an int64 of the same size: the dtype's text drops it.
    native = np.ascontiguousarray(array, dtype=array.dtype.str)
    return orjson.dumps(native, option=orjson.OPT_SERIALIZE_NUMPY)


def _rows(name: str, array: Array, text: bytes | None = None) -> Sequence[bytes]:
    """The text of each row of a tensor [n, ...]; `text` is that of the whole tensor, if the caller has it."""
    if array.ndim == 1 and array.dtype == object:
        return _strings(name, array)
    if text is None:
        text = write_tensor(name, array)
    # Cut from the text of the whole tensor: that is one call to NumPy and orjson, instead of one for each row.
    if array.ndim == 1:
        return text[1:-1].split(b",") if len(array) else []
    if array.dtype == object or not array.size:
        return [write_tensor(name, row) for row in array]
    closed, opened = b"]" * (array.ndim - 1), b"[" * (array.ndim - 1)
    rows = text[array.ndim : -array.ndim].split(closed + b"," + opened)
    return [b"%b%b%b" % (opened, row, closed) for row in rows]


def _strings(name: str, array: Array) -> list[bytes]:
    """The elements as JSON strings, or as {"b64": ...} if the name ends in `_bytes`, as upstream has it."""
    write: Callable[[bytes], bytes] = _base64 if name.endswith("_bytes") else write_string
    return [write(value.encode() if isinstance(value, str) else value) for value in array.ravel().tolist()]


def _base64(data: bytes) -> bytes:
    return b'{"b64": "%b"}' % base64.b64encode(data)


def write_string(data: bytes) -> bytes:
    """A JSON string. Quotes, backslashes and control characters are escaped; bytes that are not UTF-8 stay."""
    if not data.translate(None, _UNESCAPED):
        return b'"%b"' % data
    text = data.decode("utf-8", "surrogateescape")
    escaped = _ESCAPED.sub(lambda m: _ESCAPES.get(m[0]) or f"\\u{ord(m[0]):04X}", text)
    return b'"%b"' % escaped.encode("utf-8", "surrogateescape")


def write_classes(pairs: Iterable[tuple[Sequence[bytes], Sequence[float]]]) -> bytes:
    """The answer to Classify, `{"results": [[["label", score], ...], ...]}`, from each example's labels and scores."""
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
    """The answer to Regress, `{"results": [...]}`, from float32 [n]."""
    return b'{"results": %b}\n' % numbers.write(values)
