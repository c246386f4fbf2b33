"""Protobuf's varints: seven bits a byte, the lowest first; the eighth says that more follow."""

from __future__ import annotations

import numpy as np

from ladle.clients.wire.arrays import Array

_BYTES = [bytes([number]) for number in range(128)]


def varint(number: int) -> bytes:
    """A number from 0 on as protobuf writes integers and lengths."""
    if number < 128:
        return _BYTES[number]
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def packed_varints(values: Array) -> bytes:
    """Integers [n], n > 0, one varint after the other; negative ones take ten bytes, as protobuf has it."""
    if values.size < 64:
        return b"".join([varint(value & 0xFFFF_FFFF_FFFF_FFFF) for value in values.tolist()])
    rest = values.astype("<i8", copy=False).view("<u8") if values.dtype.kind == "i" else values
    largest = int(rest.max())
    if largest < 128:
        return rest.astype("u1").tobytes()
    rest = rest.astype("<u2" if largest < 2**16 else "<u8", copy=False)
    width = -(-largest.bit_length() // 7)
    packed = np.empty((len(rest), width), "u1")
    used = np.empty((len(rest), width), "?")
    used[:, 0] = True
    for i in range(width):
        packed[:, i] = (rest & 127) | ((rest > 127) << np.uint8(7))
        if i + 1 < width:
            used[:, i + 1] = rest > 127
        rest = rest >> 7
    return bytes(packed[used])
