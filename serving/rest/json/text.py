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
from ladle.serving.rest.json.faults import find_fault
from ladle.serving.runtime.memory import STRING_BYTES, most_strings

_QUOTED_BYTES = 256
_OTHER_QUOTES = 4096  # of keys and names
_MUCH_BYTES, _FEW_QUOTES = 2**12, 2**6
_MAX_TOKEN = 1024  # characters
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
# A string without its closing quote matches up to the end of the text. Else the search would start again at each of
# its characters, and take quadratic time.
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)'
_BYTE_STRING = re.compile(_STRING.encode(), re.DOTALL)
_STRING_OR_INF = re.compile(_STRING + r"|\bInf\b", re.DOTALL)
_NOT_FINITE = re.compile(_STRING + r"|(-?)(NaN|(?:Na?)?Inf(?:inity)?)((?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)", re.DOTALL)
_LOW_HALF = re.compile(rb"\\u[dD][c-fC-F]")
_HALVES = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u([dD][c-fC-F]..)|.)", re.DOTALL)
LARGE_EXPONENT = re.compile(rb"0[eE]\+?[0-9]{3}")
"""May be a zero with an exponent beyond 308. RapidJSON refuses it for the exponent alone; other parsers read 0."""
_KEYS = [b'"%b"' % key for key in (b"instances", b"inputs", b"signature_name", b"examples", b"context")]
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
        value = _parse_leniently(body) if _repeats_key(body) or LARGE_EXPONENT.search(body) else orjson.loads(body)
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


def check_strings(body: bytes, max_bytes: int) -> None:
    """InvalidArgument when a body holds more strings than a request of `max_bytes` may, found before any is made."""
    most = 2 * most_strings(max_bytes) + _OTHER_QUOTES
    if len(body) <= most or body.count(b'"') <= most:
        return
    if b'\\\\"' in body:  # a backslash of its own before a closing quote, which is then not escaped
        body = body.replace(b"\\\\", b"")
    if (quotes := body.count(b'"') - body.count(b'\\"')) > most:
        raise InvalidArgument(
            f"got about {quotes // 2} strings in the JSON; expected at most {most_strings(max_bytes)} in a request, "
            f"since each counts {STRING_BYTES} bytes of --max_request_bytes; send several requests"
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
    if len(body) > _MUCH_BYTES and body.count(b'"') < _FEW_QUOTES:  # an image as base64: one pass, not five
        names = body.split(b'"')
        if not any(names.count(key[1:-1]) > 1 for key in _KEYS):
            return False
    elif not any(body.count(key) > 1 for key in _KEYS):
        return False
    document: Any = simdjson.Parser().parse(body)
    keys = list(document.keys()) if isinstance(document, simdjson.Object) else []
    return len(set(keys)) < len(keys)


def _parse_leniently(body: bytes) -> Any:
    """Parses as RapidJSON does; InvalidArgument in its words."""
    if not body:
        raise InvalidArgument("JSON Parse error: The document is empty")
    text = body.decode("utf-8-sig", "surrogateescape")
    try:
        value = _decode(_STRING_OR_INF.sub(_rename_inf, text) if "Inf" in text else text)
        # Bytes that are not UTF-8 are surrogates here, and so are single halves of `\u` pairs. Most of the latter
        # cannot be encoded back to bytes; those that could be taken for bytes are found in the text.
        json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
        if _LOW_HALF.search(body) is None and LARGE_EXPONENT.search(body) is None:
            return value
    except RecursionError as error:
        if find_fault(body) is None:
            raise InvalidArgument("JSON Parse error: lists and objects are nested too deep") from error
    except (ValueError, OverflowError):
        pass
    fault = find_fault(body)
    if fault is not None:
        raise InvalidArgument(f"JSON Parse error: {fault.text} at offset: {fault.offset}")
    return _decode(_NOT_FINITE.sub(_respell, text), _INFINITE_DECODER)


def _decode(text: str, decoder: json.JSONDecoder | None = None) -> Any:
    return (decoder or _DECODER).raw_decode(text, len(text) - len(text.lstrip(" \t\r\n")))[0]


def _rename_inf(token: re.Match[str]) -> str:
    return "Infinity" if token[0] == "Inf" else token[0]


def _respell(token: re.Match[str]) -> str:
    """A string or a number that RapidJSON alone accepts, as Python's parser accepts it, with the same value."""
    if token[2] is None:
        return _HALVES.sub(_to_bytes, token[0])
    sign, word, tail = token[1], token[2], token[3]
    if tail:  # RapidJSON 1.1.0 reads the word as 0 when more of a number follows
        return f"{sign}0{tail}"
    return "NaN" if word == "NaN" else f"{sign}Infinity"


def _to_bytes(escape: re.Match[str]) -> str:
    """The second half of a `\\u` pair without its first, which RapidJSON writes as three bytes."""
    if escape[1] is None:
        return escape[0]
    return chr(int(escape[1], 16)).encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


def _read_float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise OverflowError(text)
    return number


def _read_integer(text: str) -> int | float:
    """An integer of 64 bits, else a double, as in RapidJSON."""
    number = int(text) if len(text) <= 21 else 2**64  # `int` takes quadratic time, so it is spared long texts
    return number if -(2**63) <= number < 2**64 else _read_float(text)


def _read_integer_or_infinity(text: str) -> int | float:
    try:
        return _read_integer(text)
    except OverflowError:
        return float(text)


def _keep_first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        found.setdefault(key, value)
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_keep_first, parse_float=_read_float, parse_int=_read_integer)
_INFINITE_DECODER = json.JSONDecoder(object_pairs_hook=_keep_first, parse_int=_read_integer_or_infinity)
"""Takes any number beyond double as infinite: RapidJSON refuses by the exponent, so it has refused the others."""


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
