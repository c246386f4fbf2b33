"""JSON text to Python values and back, as far as TensorFlow Serving differs from the standard.

Read: `NaN`, `Inf` and `Infinity` are numbers, text after the object is ignored, strings may hold any bytes.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from serving.errors import InvalidArgument
from serving.json_depth import check_depth

_QUOTED_BYTES = 256
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)'  # one without an end goes to the text's: never searched twice
_STRING_OR_INF = re.compile(_STRING + r"|\bInf\b", re.DOTALL)
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
        value = orjson.loads(body)
    except ValueError:
        value = _parse_leniently(body)
    if not isinstance(value, dict):
        raise InvalidArgument(f"JSON Value: {quote(value)} Is not object")
    return value


def _parse_leniently(body: bytes) -> Any:
    text = body.decode("utf-8-sig", "surrogateescape")
    if "Inf" in text:
        text = _STRING_OR_INF.sub(lambda m: "Infinity" if m[0] == "Inf" else m[0], text)
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if start == len(text):
        raise InvalidArgument("JSON Parse error: The document is empty")
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"JSON Parse error: {_reason(error)} at offset: {error.pos}") from None
    except RecursionError:
        raise InvalidArgument("JSON Parse error: lists and objects are nested too deep") from None
    except ValueError:  # an integer of thousands of digits
        raise InvalidArgument("JSON Parse error: Number too big to be stored in double.") from None
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidArgument("JSON Parse error: The surrogate pair in string is invalid.") from None
    return value


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
    """A value for an error message; cut when long."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text if len(text) <= _QUOTED_BYTES else text[:_QUOTED_BYTES]


def error_body(message: str) -> bytes:
    """`{"error": "<message>"}`, as upstream lays it out."""
    return json.dumps({"error": message}, indent=4, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
