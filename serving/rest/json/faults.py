"""Why and where RapidJSON 1.1.0 refuses a JSON text, with the flags that TensorFlow Serving gives it.

The flags are kParseIterativeFlag, kParseNanAndInfFlag and kParseStopWhenDoneFlag. This scanner builds no values, and
runs only when another parser has refused the text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BLANKS = re.compile(rb"[ \t\n\r]*")
_DIGITS = re.compile(rb"[0-9]*")
_SKIP = rb"[ \t\n\r]*"
_PLAIN_NUMBER = rb"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?(?:[eE][-+]?[0-9]{1,2})?"
_PLAIN_STRING = rb'"[^"\\\x00-\x1f]*"'
_PLAIN = rb"(?:%b|%b|true|false|null)" % (_PLAIN_NUMBER, _PLAIN_STRING)
_ROW = rb"\[%b(?:%b%b(?:,%b%b%b){0,255})?\]" % (_SKIP, _PLAIN_NUMBER, _SKIP, _SKIP, _PLAIN_NUMBER, _SKIP)
# Runs of plain values are passed over in one step: a large body with a fault at its end must not take seconds. The
# repeats are bounded, because the regular expression engine keeps memory for each.
_ELEMENTS = re.compile(rb"(?:(?:%b|%b)%b,%b){1,1024}" % (_PLAIN, _ROW, _SKIP, _SKIP))
_MEMBERS = re.compile(rb"(?:%b%b:%b%b%b,%b){1,1024}" % (_PLAIN_STRING, _SKIP, _SKIP, _PLAIN, _SKIP, _SKIP))
_HEX = rb"[0-9a-fA-F]"
_CODE_UNIT = rb"u(?:[0-9a-cA-CefEF]%b{3}|[dD][0-7c-fC-F]%b{2}|[dD][89abAB]%b{2}\\u[dD][c-fC-F]%b{2})" % ((_HEX,) * 4)
_CHARACTERS = re.compile(rb'(?:[^"\\\x00-\x1f]+|\\["\\/bfnrt]|\\%b){0,1024}' % _CODE_UNIT)
_FOUR_HEX = re.compile(_HEX + rb"{4}")

_EMPTY = "The document is empty."
_VALUE = "Invalid value."
_NAME = "Missing a name for object member."
_COLON = "Missing a colon after a name of object member."
_MEMBER = "Missing a comma or '}' after an object member."
_ELEMENT = "Missing a comma or ']' after an array element."
_HEX_DIGIT = "Incorrect hex digit after \\u escape in string."
_SURROGATE = "The surrogate pair in string is invalid."
_ESCAPE = "Invalid escape character in string."
_QUOTE = "Missing a closing quotation mark in string."
_TOO_BIG = "Number too big to be stored in double."
_FRACTION = "Miss fraction part in number."
_EXPONENT = "Miss exponent in number."

# States, each with RapidJSON's text for a token that does not fit.
_STATES = {
    "start": _EMPTY,
    "object": _NAME,  # after {
    "member comma": _NAME,
    "key": _COLON,
    "colon": _VALUE,
    "member": _MEMBER,
    "array": _VALUE,  # after [
    "element comma": _VALUE,
    "element": _ELEMENT,
}
_AFTER_VALUE = {"start": "end", "colon": "member", "array": "element", "element comma": "element"}
_MAX_TENTH = 1.7976931348623157e307


class Fault(NamedTuple):
    """RapidJSON's text, and the offset in bytes."""

    text: str
    offset: int


class _FaultError(Exception):
    """Ends the scan. Its argument is the Fault."""


def find_fault(body: bytes) -> Fault | None:
    """The fault that RapidJSON reports in a body; None when it accepts the body."""
    try:
        _scan(body.partition(b"\0")[0])  # RapidJSON takes a NUL for the end of the text
    except _FaultError as error:
        fault: Fault = error.args[0]
        return fault
    return None


def _scan(text: bytes) -> None:
    at = 0
    for mark in (b"\xef", b"\xbb", b"\xbf"):
        at += text.startswith(mark, at)
    opened = bytearray()
    state = "start"
    while True:
        at = _end(_BLANKS, text, at)
        char = text[at : at + 1]
        if state in _AFTER_VALUE:
            if char in (b"[", b"{"):
                opened += char
                state, at = ("array" if char == b"[" else "object"), at + 1
                at, state = _pass_over(text, _end(_BLANKS, text, at), state)
                continue
            if char != b"]" or state != "array":
                if char in (b"", b"]", b"}", b",", b":"):
                    raise _fault(_STATES[state], at)
                at, state = _scan_value(text, at), _AFTER_VALUE[state]
                if state == "end":
                    return
                continue
        elif state in ("object", "member comma") and char == b'"':
            at, state = _scan_string(text, at), "key"
            continue
        elif state == "key" and char == b":":
            at, state = at + 1, "colon"
            continue
        elif state in ("member", "element") and char == b",":
            at, state = _pass_over(text, _end(_BLANKS, text, at + 1), f"{state} comma")
            continue
        # What remains is a list or an object that ends here, or a fault.
        if (state, char) not in (("object", b"}"), ("member", b"}"), ("array", b"]"), ("element", b"]")):
            raise _fault(_STATES[state], at)
        opened.pop()
        if not opened:
            return
        at, state = at + 1, "element" if opened[-1:] == b"[" else "member"


def _pass_over(text: bytes, at: int, state: str) -> tuple[int, str]:
    """Position and state behind a run of plain elements or members, each with its comma."""
    pattern, comma = (_MEMBERS, "member comma") if state in ("object", "member comma") else (_ELEMENTS, "element comma")
    while True:
        found = pattern.match(text, at)
        if found is None:
            return at, state
        at, state = found.end(), comma


def _scan_value(text: bytes, at: int) -> int:
    match text[at : at + 1]:
        case b'"':
            return _scan_string(text, at)
        case b"t":
            return _scan_word(text, at, b"true")
        case b"f":
            return _scan_word(text, at, b"false")
        case b"n":
            return _scan_word(text, at, b"null")
    return _scan_number(text, at)


def _scan_word(text: bytes, at: int, word: bytes) -> int:
    end = _consume(text, at, word)
    if end < at + len(word):
        raise _fault(_VALUE, end)
    return end


def _scan_string(text: bytes, at: int) -> int:
    at += 1
    while (end := _end(_CHARACTERS, text, at)) > at:
        at = end
    match text[at : at + 1]:
        case b'"':
            return at + 1
        case b"":
            raise _fault(_QUOTE, at)
    if text[at : at + 2] != b"\\u":
        raise _fault(_ESCAPE, at)  # also for a control character
    if _FOUR_HEX.match(text, at + 2) is None:
        raise _fault(_HEX_DIGIT, at)
    # The first half of a pair: anything else with four digits is a character by itself.
    has_second = text[at + 6 : at + 8] == b"\\u"
    raise _fault(_SURROGATE if not has_second or _FOUR_HEX.match(text, at + 8) else _HEX_DIGIT, at)


def _scan_number(text: bytes, start: int) -> int:
    at = start + text.startswith(b"-", start)
    digits = b"0"
    if text.startswith(b"0", at):
        at += 1
    elif (end := _end(_DIGITS, text, at)) > at:
        digits, at = text[at:end], end
    else:
        at = _scan_not_finite(text, at)
    if len(digits) > 309 or (len(digits) == 309 and float(digits[:308]) >= _MAX_TENTH):
        raise _fault(_TOO_BIG, start)
    fraction = b""
    if text.startswith(b".", at):
        end = _end(_DIGITS, text, at + 1)
        if end == at + 1:
            raise _fault(_FRACTION, end)
        fraction, at = text[at + 1 : end], end
    if text[at : at + 1] not in (b"e", b"E"):
        return at
    is_negative = text.startswith(b"-", at + 1)
    at += 2 if is_negative or text.startswith(b"+", at + 1) else 1
    end = _end(_DIGITS, text, at)
    if end == at:
        raise _fault(_EXPONENT, at)
    exponent = int(text[at:end].lstrip(b"0")[:12] or b"0")
    if not is_negative and exponent > 308 and exponent > 308 + _used_digits(digits, fraction) and end > at + 1:
        raise _fault(_TOO_BIG, start)
    return end


def _scan_not_finite(text: bytes, at: int) -> int:
    """NaN, Inf or Infinity. After an N or Na that does not become NaN, version 1.1.0 goes on with Inf."""
    end = _consume(text, at, b"NaN")
    if end == at + 3:
        return end
    at = end
    end = _consume(text, at, b"Inf")
    if end < at + 3:
        raise _fault(_VALUE, end)
    if text.startswith(b"i", end):
        return _scan_word(text, end, b"inity")
    return end


def _used_digits(digits: bytes, fraction: bytes) -> int:
    """Digits of the fraction that RapidJSON reads; it drops those beyond 17 significant ones."""
    significant = len(digits) - 1
    if len(digits) > 20 or int(digits) >= 2**64:
        return min(len(fraction), max(0, 17 - significant))
    value, used = int(digits), 0
    while used < len(fraction) and value < 2**53:
        value = value * 10 + fraction[used] - 48
        used += 1
        significant += value != 0
    return used + min(len(fraction) - used, max(0, 17 - significant))


def _consume(text: bytes, at: int, word: bytes) -> int:
    """The end of the longest beginning of `word` at this position."""
    for i in range(len(word)):
        if not text.startswith(word[i : i + 1], at + i):
            return at + i
    return at + len(word)


def _end(pattern: re.Pattern[bytes], text: bytes, at: int) -> int:
    """Where a pattern that matches anywhere ends."""
    found = pattern.match(text, at)
    assert found is not None
    return found.end()


def _fault(text: str, offset: int) -> _FaultError:
    return _FaultError(Fault(text, offset))
