"""JSON text to Python values and back, as far as TensorFlow Serving differs from the standard.

Read: `NaN`, `Inf` and `Infinity` are numbers, text after the object is ignored, strings may hold any bytes, of a key
given twice the first counts.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson
import simdjson

from ladle.serving.errors import InvalidArgument
from ladle.serving.rest.json.depth import check_depth

_QUOTED_BYTES = 256
_TOKEN_LENGTH = 1024
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)'  # one without an end goes to the text's: never searched twice
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


def parse_object(body: bytes, max_depth: int = 0) -> dict[str, Any]:
    """The object that a body holds; InvalidArgument `JSON Parse error: ... at offset: <n>`, or when nested too deep."""
    check_depth(body, max_depth)
    try:
        value = _parse_leniently(body) if _repeats_key(body) else orjson.loads(body)
    except (ValueError, RuntimeError):  # simdjson's word for an integer beyond 64 bits is RuntimeError
        value = _parse_leniently(body)
    if not isinstance(value, dict):
        raise InvalidArgument(f"JSON Value: {quote(value)} Is not object")
    return value


def _repeats_key(body: bytes) -> bool:
    """Whether one of the object's own keys that matter is there twice; ValueError when the text is no JSON."""
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
        json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        offset = next((m.start() for m in _ESCAPE.finditer(text, start) if _is_half_pair(m[1], m[2])), start)
        raise InvalidArgument(
            f"JSON Parse error: The surrogate pair in string is invalid. at offset: {offset}"
        ) from None
    return value


def _is_half_pair(first: str | None, second: str | None) -> bool:
    """Whether a \\u escape, and the one right after it, are not the two halves of a character."""
    high = first is not None and first[:2].lower() in ("d8", "d9", "da", "db")
    low = first is not None and first[:2].lower() in ("dc", "dd", "de", "df")
    return low or (high and (second is None or second[:2].lower() not in ("dc", "dd", "de", "df")))


def _read_float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise OverflowError(text)
    return number


def _read_integer(text: str) -> int | float:
    """Beyond 64 bits a double, as RapidJSON has it."""
    number = int(text) if len(text) <= 21 else 2**64
    return number if -(2**63) <= number < 2**64 else _read_float(text)


def _keep_first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        found.setdefault(key, value)
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_keep_first, parse_float=_read_float, parse_int=_read_integer)


def _reason(error: json.JSONDecodeError) -> str:
    if error.msg == "Expecting ',' delimiter":
        opened = []
        for mark in re.sub(_STRING, "", error.doc[: error.pos], flags=re.DOTALL):
            if mark in "[{":
                opened.append(mark)
            elif mark in "]}" and opened:
                opened.pop()
        in_array = bool(opened) and opened[-1] == "["
        return (
            "Missing a comma or ] after an array element."
            if in_array
            else "Missing a comma or } after an object member."
        )
    return _REASONS.get(error.msg, "Invalid value.")


def quote(value: Any) -> str:
    """A value for an error message; it ends after the token that takes it beyond 256 bytes, and not much later."""
    text = ""
    for token in _ENCODER.iterencode(value):  # as far as is needed: a body may be large
        text += token[:_TOKEN_LENGTH].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if len(text) > _QUOTED_BYTES:
            break
    return text


def error_body(message: str) -> bytes:
    """`{"error": "<message>"}`, as upstream lays it out."""
    return json.dumps({"error": message}, indent=4, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
