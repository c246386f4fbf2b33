"""Protobuf's varints: seven bits in each byte, the lowest first; the eighth bit says that another byte follows.

The only reader and writer of varints in the package: what writes or reads protobuf by hand uses these.
"""

from __future__ import annotations

import numpy as np

from ladle.clients.wire.arrays import Array

_BYTES = [bytes([number]) for number in range(128)]


def varint(number: int) -> bytes:
    """The varint of an integer >= 0."""
    if number < 128:
        return _BYTES[number]
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes | bytearray | memoryview, at: int) -> tuple[int, int]:
    """The varint that starts at `data[at]`, and the index after it.

    IndexError: `data` ends within it. ValueError: it has more than 64 bits.
    """
    number = shift = 0
    while (byte := data[at]) > 127:
        if shift > 56:  # without a limit, hostile bytes would make integers of any size
            raise ValueError("got a varint of more than 64 bits")
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
    return number | byte << shift, at + 1


def packed_varints(values: Array) -> bytes:
    """The varints of integers [n], n > 0, one after the other. A negative one takes ten bytes, as in protobuf."""
    if values.size < 64:  # below this the set-up of the vectorised way costs more than it saves
        return b"".join([varint(value & 0xFFFF_FFFF_FFFF_FFFF) for value in values.tolist()])
    rest = values.astype("<i8", copy=False).view("<u8") if values.dtype.kind == "i" else values
    largest = int(rest.max())
    if largest < 128:
        return rest.astype("u1").tobytes()
    # Write every number at the width of the largest, then keep the bytes that each really has.
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
