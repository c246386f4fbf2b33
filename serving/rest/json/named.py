"""Predict bodies that name their inputs, read without a Python object for each number: columns and rows.

{"inputs": {"a": [...], "b": [...]}}             a tensor each
{"instances": [{"a": [...], "b": [...]}, ...]}   a row of each
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.rest.json.compiled import ReadList

FROM_BYTES = 2**10
"""Smaller bodies gain nothing."""
_BLANKS = rb"[ \t\n\r]*"  # JSON's; Python's `\s` has more


def pattern(text: bytes) -> re.Pattern[bytes]:
    """The pattern, where a `~` stands for white space."""
    return re.compile(text.replace(b"~", _BLANKS))


_HEAD = pattern(rb'~\{~(?:"signature_name"~:~"([A-Za-z0-9_.-]*)"~,~)?"(?:(inputs)"~:~\{|instances"~:~\[~\{)')
_KEY = pattern(rb'~"([A-Za-z0-9_./ -]+)"~:~(?=\[)')
_NEXT, _NEXT_ROW = pattern(rb"~([,}])"), pattern(rb"~,~\{")
_END_OF_COLUMNS, _END_OF_ROWS = pattern(rb"~\}~\Z"), pattern(rb"~\]~\}~\Z")
_Fields = dict[str, tuple[bytearray, tuple[int, ...]]]


class Head(NamedTuple):
    """signature_name, whether the body has rows, and where its first object begins, behind the bracket."""

    signature_name: str
    is_row: bool
    start: int


def read_head(body: bytes) -> Head | None:
    """None where the body begins in another way."""
    found = _HEAD.match(body)
    return None if found is None else Head((found[1] or b"").decode(), found[2] is None, found.end())


def read(body: bytes, head: Head, dtypes: Mapping[str, str], read_list: ReadList) -> dict[str, Array] | None:
    """The inputs, by name, in the order of `dtypes`; None for anything unusual, which is then read value by value.

    dtypes  of the inputs, in NumPy's short form, by name
    """
    if not head.is_row:
        columns, at = _read_object(body, head.start, dtypes, read_list)
        if columns is None or not _END_OF_COLUMNS.match(body, at):
            return None
        return {
            name: np.frombuffer(columns[name][0], dtype).reshape(columns[name][1]) for name, dtype in dtypes.items()
        }
    rows: list[_Fields] = []
    at = head.start
    while True:
        row, at = _read_object(body, at, dtypes, read_list)
        if row is None or any(row[name][1] != rows[0][name][1] for name in (dtypes if rows else ())):
            return None
        rows.append(row)
        following = _NEXT_ROW.match(body, at)
        if following is None:
            break
        at = following.end()
    if not _END_OF_ROWS.match(body, at):
        return None
    return {
        name: np.frombuffer(bytearray().join([row[name][0] for row in rows]), dtype).reshape(
            len(rows), *rows[0][name][1]
        )
        for name, dtype in dtypes.items()
    }


def _read_object(body: bytes, at: int, dtypes: Mapping[str, str], read_list: ReadList) -> tuple[_Fields | None, int]:
    """The lists of the object whose first key is at `at`, and the place behind it; None unless each input is there."""
    fields: _Fields = {}
    while True:
        key = _KEY.match(body, at)
        name = key[1].decode() if key else ""
        if key is None or name in fields or name not in dtypes:
            return None, at
        found = read_list(body, key.end(), dtypes[name])
        if found is None:
            return None, at
        fields[name] = found[:2]
        following = _NEXT.match(body, found[2])
        if following is None:
            return None, at
        at = following.end()
        if following[1] == b"}":
            return (fields if len(fields) == len(dtypes) else None), at
