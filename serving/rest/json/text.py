"""JSON text to Python values and back, where TensorFlow Serving (RapidJSON) differs from the standard.

Reading: `NaN`, `Inf` and `Infinity` are numbers; text after the object is ignored; strings may hold any bytes; of a
key that is given twice the first counts.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import orjson
import simdjson

from ladle.serving.errors import InvalidArgument

_QUOTED_BYTES = 256
_MAX_TOKEN = 1024  # characters
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
# A string without its closing quote matches up to the end of the text. Else the search would start again at each of
# its characters, and take quadratic time.
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)'
_BYTE_STRING = re.compile(_STRING.encode(), re.DOTALL)
_STRING_OR_INF = re.compile(_STRING + r"|\bInf\b", re.DOTALL)
_STRING_OR_NUMBER = re.compile(_STRING + r"|(-?[0-9][0-9.eE+-]*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})(?:\\u([0-9a-fA-F]{4}))?|.)", re.DOTALL)
_KEYS = [b'"%b"' % key for key in (b"instances", b"inputs", b"signature_name", b"examples", b"context")]
_REASONS = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Illegal trailing comma before end of array": "Invalid value.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid control character at": "Invalid encoding in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
}
"""RapidJSON's messages for those of Python's parser."""
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_DEPTH_STEPS = np.zeros(256, np.int8)
_DEPTH_STEPS[list(b"[{")] = 1
_DEPTH_STEPS[list(b"]}")] = -1


def parse_object(body: bytes, max_depth: int = 0) -> dict[str, Any]:
    """The object in a body.

    max_depth  of nested lists and objects; 0: any

    InvalidArgument: `JSON Parse error: ... at offset: <n>`, deeper nesting, or another value than an object.
    """
    check_depth(body, max_depth)
    try:
        # orjson is several times as fast as Python's parser, but keeps the last of two equal keys, and knows no NaN.
        # So Python's parser reads what repeats a key or what orjson refuses, and words the errors.
        value = _parse_leniently(body) if _repeats_key(body) else orjson.loads(body)
    except (ValueError, RuntimeError):  # simdjson raises RuntimeError for an integer beyond 64 bits
        value = _parse_leniently(body)
    if not isinstance(value, dict):
        raise InvalidArgument(f"JSON Value: {quote(value)} Is not object")
    return value


def check_depth(body: bytes, max_depth: int) -> None:
    """InvalidArgument when lists and objects are nested deeper, found before any value is built; 0 allows any depth."""
    if max_depth <= 0 or body.count(b"[") + body.count(b"{") <= max_depth:
        return
    brackets = _BYTE_STRING.sub(b"", body).translate(None, _NOT_BRACKETS)
    depth = int(np.cumsum(_DEPTH_STEPS[np.frombuffer(brackets, np.uint8)], dtype=np.int64).max(initial=0))
    if depth > max_depth:
        raise InvalidArgument(
            f"JSON Parse error: lists and objects are nested {depth} deep; at most {max_depth} are read here"
        )


def read_signature_name(document: dict[str, Any]) -> str:
    """The `signature_name` of a body, "" without one; InvalidArgument when it is not a string."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidArgument(
            f"JSON Value: {quote(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def _repeats_key(body: bytes) -> bool:
    """Whether one of the keys that matter occurs twice in the outer object; ValueError when the text is not JSON."""
    if not any(body.count(key) > 1 for key in _KEYS):
        return False
    document: Any = simdjson.Parser().parse(body)
    keys = list(document.keys()) if isinstance(document, simdjson.Object) else []
    return len(set(keys)) < len(keys)


def _parse_leniently(body: bytes) -> Any:
    text = body.decode("utf-8-sig", "surrogateescape")
    if "Inf" in text:
        text = _STRING_OR_INF.sub(lambda m: "Infinity" if m[0] == "Inf" else m[0], text)
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if start == len(text):
        raise InvalidArgument("JSON Parse error: The document is empty")
    try:
        value, _ = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"JSON Parse error: {_reason(error)} at offset: {error.pos}") from None
    except RecursionError:
        raise InvalidArgument("JSON Parse error: lists and objects are nested too deep") from None
    except OverflowError as error:
        number = error.args[0]
        offset = next((m.start() for m in _STRING_OR_NUMBER.finditer(text, start) if m[1] == number), start)
        raise InvalidArgument(f"JSON Parse error: Number too big to be stored in double. at offset: {offset}") from None
    try:
        # Bytes that are not UTF-8 are surrogates here, and so are the halves of `\u` pairs; only the latter cannot be
        # encoded back to bytes.
        json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        offset = next((m.start() for m in _ESCAPE.finditer(text, start) if _is_half_pair(m[1], m[2])), start)
        raise InvalidArgument(
            f"JSON Parse error: The surrogate pair in string is invalid. at offset: {offset}"
        ) from None
    return value


def _is_half_pair(first: str | None, second: str | None) -> bool:
    """Whether a `\\u` escape and the one right after it are not the two halves of one character."""
    high = first is not None and first[:2].lower() in ("d8", "d9", "da", "db")
    low = first is not None and first[:2].lower() in ("dc", "dd", "de", "df")
    return low or (high and (second is None or second[:2].lower() not in ("dc", "dd", "de", "df")))


def _read_float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise OverflowError(text)
    return number


def _read_integer(text: str) -> int | float:
    """An integer of 64 bits, else a double, as in RapidJSON."""
    number = int(text) if len(text) <= 21 else 2**64  # `int` takes quadratic time, so it is spared long texts
    return number if -(2**63) <= number < 2**64 else _read_float(text)


def _keep_first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        found.setdefault(key, value)
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_keep_first, parse_float=_read_float, parse_int=_read_integer)


def _reason(error: json.JSONDecodeError) -> str:
    if error.msg != "Expecting ',' delimiter":
        return _REASONS.get(error.msg, "Invalid value.")
    opened = []
    for mark in re.sub(_STRING, "", error.doc[: error.pos], flags=re.DOTALL):
        if mark in "[{":
            opened.append(mark)
        elif mark in "]}" and opened:
            opened.pop()
    in_array = bool(opened) and opened[-1] == "["
    return (
        "Missing a comma or ] after an array element." if in_array else "Missing a comma or } after an object member."
    )


def quote(value: Any) -> str:
    """A value for an error message, cut after the token that takes it beyond 256 bytes."""
    text = ""
    for token in _ENCODER.iterencode(value):  # no further than needed: the value may be a large body
        text += token[:_MAX_TOKEN].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if len(text) > _QUOTED_BYTES:
            break
    return text


def error_body(message: str) -> bytes:
    """`{"error": "<message>"}`, laid out as TensorFlow Serving does."""
    return json.dumps({"error": message}, indent=4, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
