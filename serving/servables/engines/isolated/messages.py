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


def send(line: socket.socket, head: Mapping[str, Any], arrays: Sequence[Array] = ()) -> None:
    """Writes a message. ValueError: an array has a dtype that the wire lacks; nothing is written then."""
    described, parts = [], []
    for array in arrays:
        dtype = tensors.dtype_of(array)
        data = _strings(array) if dtype is tensors.STRING else np.ascontiguousarray(array).reshape(-1).view("u1").data
        described.append((dtype.number, array.shape, len(data)))
        parts.append(data)
    written = json.dumps({**head, "arrays": described}).encode()
    line.sendall(_LENGTHS.pack(len(written), sum(map(len, parts))) + written)
    for part in parts:
        if len(part):
            line.sendall(part)


def receive(line: socket.socket) -> tuple[dict[str, Any], list[Array]]:
    """Reads a message. EOFError: the other process has gone."""
    head_bytes, body_bytes = _LENGTHS.unpack(_read(line, _LENGTHS.size).tobytes())
    head = json.loads(_read(line, head_bytes).tobytes())
    body, arrays, start = _read(line, body_bytes), [], 0
    for number, shape, size in head.pop("arrays"):
        part, start = body[start : start + size], start + size
        dtype = tensors.DTYPES[number]
        flat = _split(part, math.prod(shape)) if dtype is tensors.STRING else part.view(dtype.numpy)
        arrays.append(flat.reshape(shape))
    return head, arrays


def _read(line: socket.socket, size: int) -> Array:
    # An array of NumPy's own memory, which is aligned for every dtype; bytes need not be.
    data: Array = np.empty(size, "u1")
    view, read = data.data, 0
    while read < size:
        got = line.recv_into(view[read:])
        if not got:
            raise EOFError
        read += got
    return data


def _strings(array: Array) -> bytes:
    values = [value if isinstance(value, bytes) else str(value).encode() for value in array.ravel().tolist()]
    return np.array([len(value) for value in values], "<u8").tobytes() + b"".join(values)


def _split(part: Array, count: int) -> Array:
    data = part.tobytes()
    ends = itertools.accumulate(np.frombuffer(data, "<u8", count).tolist(), initial=8 * count)
    found: Array = np.empty(count, object)
    found[:] = [data[start:end] for start, end in itertools.pairwise(ends)]
    return found
