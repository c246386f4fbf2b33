"""Messages between the server and TensorFlow's process: a JSON object and arrays, on a stream socket.

A message is the lengths of head and body, the head, and the bytes of the arrays one after another. Strings have their
lengths first. The head's "arrays" has the wire number of each dtype, the shape, and the number of bytes.
"""

from __future__ import annotations

import itertools
import json
import math
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array

_LENGTHS = struct.Struct("<IQ")
BUFFER_BYTES = 2**20
_SMALL_BYTES = 2**15
_ALIGNED = 16
"""The bytes of the first array begin at a multiple of this."""


def send(line: socket.socket, head: Mapping[str, Any], arrays: Sequence[Array] = ()) -> None:
    """Writes a message. ValueError: an array has a dtype that the wire lacks; nothing is written then."""
    described, parts = [], []
    for array in arrays:
        dtype = tensors.dtype_of(array)
        data = _strings(array) if dtype is tensors.STRING else np.ascontiguousarray(array).reshape(-1).view("u1").data
        described.append((dtype.number, array.shape, len(data)))
        parts.append(data)
    written = json.dumps({**head, "arrays": described}).encode()
    written += b" " * (-(_LENGTHS.size + len(written)) % _ALIGNED)
    start = _LENGTHS.pack(len(written), sum(map(len, parts))) + written
    if sum(map(len, parts)) <= _SMALL_BYTES:
        line.sendall(b"".join((start, *parts)))
        return
    for part in (start, *parts):
        line.sendall(part)


def receive(line: socket.socket) -> tuple[dict[str, Any], list[Array]]:
    """Reads a message. EOFError: the other process has gone."""
    data: Array = np.empty(2 * _SMALL_BYTES, "u1")
    # The first read takes all of a small message: its sender waits for the answer before it sends more.
    read = _read(line, data, 0, _LENGTHS.size)
    head_bytes, body_bytes = _LENGTHS.unpack_from(data.data)
    begin = _LENGTHS.size + head_bytes
    end = begin + body_bytes
    if end > data.size:
        data, small = np.empty(end, "u1"), data
        data[:read] = small[:read]
    if read < end:
        _read(line, data, read, end)
    head = json.loads(data[_LENGTHS.size : begin].tobytes())
    arrays, at = [], begin
    for number, shape, size in head.pop("arrays"):
        part, at = data[at : at + size], at + size
        dtype = tensors.DTYPES[number]
        if dtype is tensors.STRING:
            arrays.append(_split(part, math.prod(shape)).reshape(shape))
        else:
            is_aligned = part.ctypes.data % _ALIGNED == 0
            arrays.append((part if is_aligned else part.copy()).view(dtype.numpy).reshape(shape))
    return head, arrays


def _read(line: socket.socket, data: Array, read: int, least: int) -> int:
    """Reads on into the array after `read` bytes until it has at least so many; how many it has then."""
    view = memoryview(data.data)
    while read < least:
        got = line.recv_into(view[read:])
        if not got:
            raise EOFError
        read += got
    return read


def _strings(array: Array) -> bytes:
    values = [value if isinstance(value, bytes) else str(value).encode() for value in array.ravel().tolist()]
    return np.array([len(value) for value in values], "<u8").tobytes() + b"".join(values)


def _split(part: Array, count: int) -> Array:
    data = part.tobytes()
    ends = itertools.accumulate(np.frombuffer(data, "<u8", count).tolist(), initial=8 * count)
    found: Array = np.empty(count, object)
    found[:] = [data[start:end] for start, end in itertools.pairwise(ends)]
    return found
