"""Numbers from text and text from numbers, as TensorFlow reads and writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument
from ladle.serving.servables.host.strings import array_of, bytes_of

Attributes = Mapping[str, Any]
Function = Callable[..., Any]

_SPACE = rb"[ \t\n\r\x0b\x0c]*"
_INTEGER = re.compile(_SPACE + rb"([+-]?[0-9]+)" + _SPACE)
_FLOAT = re.compile(
    _SPACE + rb"([+-]?(?:[0-9]+\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan))" + _SPACE, re.I
)
_HEXADECIMAL = re.compile(_SPACE + rb"([+-]?0x[0-9a-f]+)" + _SPACE, re.I)
_MOST_DIGITS = 400  # of an integer; longer ones cannot be parsed in linear time, and none of them fits


def parse_integer(text: bytes, dtype: np.dtype[Any]) -> int | None:
    """The integer in a text; None if there is none, or none of this dtype."""
    match = _INTEGER.fullmatch(text)
    if match is None or len(match[1].lstrip(b"+-0")) > _MOST_DIGITS:
        return None
    value, limits = int(match[1].lstrip(b"+-").lstrip(b"0") or b"0"), np.iinfo(dtype)
    value = -value if match[1].startswith(b"-") else value
    return value if limits.min <= value <= limits.max else None


def parse_float(text: bytes, dtype: np.dtype[Any]) -> float | None:
    """The number in a text, rounded once to this dtype; None if there is none."""
    match = _FLOAT.fullmatch(text)
    if match is None:
        whole = _HEXADECIMAL.fullmatch(text)
        return (
            None if whole is None or len(whole[1]) > _MOST_DIGITS else _rounded(float.fromhex(whole[1].decode()), dtype)
        )
    value = float(match[1])
    if dtype == np.float64 or not np.isfinite(value):
        return value
    with np.errstate(over="ignore"):
        near = np.float32(value)
    # A text beside the middle of two float32 can be rounded to the middle first, and then to the wrong side.
    if np.isfinite(near) and float(near) != value:
        other = np.nextafter(near, np.float32(np.inf if value > near else -np.inf))
        if np.isfinite(other) and Fraction(value) * 2 == Fraction(float(near)) + Fraction(float(other)):
            exact, middle = Fraction(match[1].decode()), Fraction(value)
            if exact != middle:
                return float(max(near, other) if exact > middle else min(near, other))
    return float(near)


def _rounded(value: float, dtype: np.dtype[Any]) -> float:
    with np.errstate(over="ignore"):
        return float(dtype.type(value))


def parser(dtype: np.dtype[Any]) -> Callable[[bytes, np.dtype[Any]], Any]:
    """`parse_integer` or `parse_float`."""
    return parse_integer if dtype.kind in "iu" else parse_float


def _to_number(attributes: Attributes) -> Function:
    dtype = np.dtype(attributes.get("out_type", "float32"))
    parse = parser(dtype)

    def to_number(texts: Array) -> Array:
        out = np.empty(texts.size, dtype)
        for i, text in enumerate(texts.ravel().tolist()):
            value = parse(text, dtype)
            if value is None:
                raise InvalidArgument(f"StringToNumberOp could not correctly convert string: {text.decode('latin-1')}")
            out[i] = value
        return out.reshape(texts.shape)

    return to_number


def _as_string(attributes: Attributes) -> Function:
    dtype, precision = attributes["T"], int(attributes.get("precision", -1))
    width, fill = int(attributes.get("width", -1)), attributes.get("fill", "")
    if fill not in ("", "0", " ", "-", "+"):
        raise ValueError(f"fill {fill!r}")
    pad = "" if width <= -1 else f"{fill}{width}"
    if dtype == "string":
        return lambda texts: texts
    if dtype == "bool":
        return lambda x: _formatted(x, f"%{pad}s", lambda value: "true" if value else "false")
    if np.dtype(dtype).kind in "iu":
        return lambda x: _formatted(x, f"%{pad}d", int)
    if dtype not in ("float32", "float64"):
        raise ValueError(f"T {dtype}")
    letter = "e" if attributes.get("scientific") else "g" if attributes.get("shortest") else "f"
    form = f"%{pad}{'' if precision <= -1 else f'.{precision}'}{letter}"
    of_words = f"%{pad.removeprefix('0')}s"  # C fills with zeros before digits alone

    def written(x: Array) -> Array:
        texts = [
            (form % value if math.isfinite(value) else of_words % _word(value)).encode() for value in x.ravel().tolist()
        ]
        return array_of(texts, x.shape)

    return written


def _word(value: float) -> str:
    word = "nan" if math.isnan(value) else "inf"
    return f"-{word}" if math.copysign(1, value) < 0 else word


def _formatted(x: Array, form: str, convert: Callable[[Any], Any]) -> Array:
    return array_of([(form % convert(value)).encode() for value in x.ravel().tolist()], x.shape)


def _decode_csv(attributes: Attributes) -> Function:
    dtypes = list(attributes["OUT_TYPE"])
    delimiter, na_value = bytes_of(attributes.get("field_delim", ",")), bytes_of(attributes.get("na_value", ""))
    quotes, selected = bool(attributes.get("use_quote_delim", True)), list(attributes.get("select_cols") or [])

    def decode(records: Array, *defaults: Array) -> tuple[Array, ...]:
        columns: list[list[Any]] = [[] for _ in dtypes]
        for row, record in enumerate(records.ravel().tolist()):
            fields = fields_of(record, delimiter, quotes)
            if selected:
                fields = [fields[at] for at in selected if at < len(fields)]
            if len(fields) != len(dtypes):
                raise InvalidArgument(f"Expect {len(dtypes)} fields but have {len(fields)} in record {row}")
            for column, field, dtype, default in zip(columns, fields, dtypes, defaults, strict=True):
                column.append(_field(field, dtype, default, na_value, len(column)))
        return tuple(
            array_of(column, records.shape)
            if dtype == "string"
            else np.array(column, np.dtype(dtype)).reshape(records.shape)
            for column, dtype in zip(columns, dtypes, strict=True)
        )

    return decode


def _field(field: bytes, dtype: str, default: Array, na_value: bytes, row: int) -> Any:
    if not field or field == na_value:
        if not default.size:
            raise InvalidArgument(f"Field is required but missing in record {row}!")
        return default.item()
    if dtype == "string":
        return field
    value = parser(np.dtype(dtype))(field, np.dtype(dtype))
    if value is None:
        raise InvalidArgument(f"Field in record {row} is not a valid {dtype}: {field.decode('latin-1')}")
    return value


def fields_of(record: bytes, delimiter: bytes, quotes: bool) -> list[bytes]:
    """The fields of a CSV record by RFC 4180, as TensorFlow reads them: quotes only around a whole field."""
    fields: list[bytes] = []
    at = 0
    while at < len(record):
        if record[at : at + 1] in (b"\n", b"\r"):
            at += 1
        elif quotes and record[at : at + 1] == b'"':
            end, field = at + 1, b""
            while True:
                close = record.find(b'"', end)
                if close < 0:
                    raise InvalidArgument("Quoted field has to end with quote followed by delim or end")
                field += record[end:close]
                if record[close + 1 : close + 2] != b'"':
                    break
                field, end = field + b'"', close + 2
            if close + 1 < len(record) and record[close + 1 : close + 2] != delimiter:
                raise InvalidArgument("Quoted field has to end with quote followed by delim or end")
            fields.append(field)
            at = close + 2
        else:
            end = record.find(delimiter, at)
            end = len(record) if end < 0 else end
            field = record[at:end]
            if quotes and (b'"' in field or b"\n" in field or b"\r" in field):
                raise InvalidArgument("Unquoted fields cannot have quotes/CRLFs inside")
            fields.append(field)
            at = end + 1
    if record.endswith(delimiter) or not record:
        fields.append(b"")
    return fields


OPERATIONS: dict[str, Callable[[Attributes], Function]] = {
    "StringToNumber": _to_number,
    "AsString": _as_string,
    "DecodeCSV": _decode_csv,
}
