"""SipHash-2-4, by which TensorFlow hashes strings with a key; many strings at once.

Source  Aumasson, Bernstein 2012, "SipHash: a fast short-input PRF"
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ladle.clients.wire.arrays import Array

_START = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


def siphash(strings: Sequence[bytes], key: tuple[int, int]) -> Array:
    """The hash of each string, uint64 [n]; the key is two integers of 64 bits."""
    if not strings:
        return np.empty(0, np.uint64)
    lengths = np.fromiter(map(len, strings), np.int64, len(strings))
    order = np.argsort(-lengths, kind="stable")  # the longest first: those with a block left are the first ones
    counts = lengths[order] // 8 + 1
    padded = [strings[i] + bytes(7 - len(strings[i]) % 8) + bytes([len(strings[i]) % 256]) for i in order]
    words = np.frombuffer(b"".join(padded), "<u8")
    starts = np.cumsum(counts) - counts
    k0, k1 = (np.uint64(k % 2**64) for k in key)
    state = np.array([k0, k1, k0, k1], np.uint64) ^ np.array(_START, np.uint64)
    v = [np.full(len(strings), each) for each in state]
    for block in range(int(counts[0])):
        left = int(np.searchsorted(-counts, -block, side="left"))
        word = words[starts[:left] + block]
        mine = [each[:left] for each in v]
        mine[3] = mine[3] ^ word
        mine = _rounds(mine, 2)
        mine[0] = mine[0] ^ word
        for each, new in zip(v, mine, strict=True):
            each[:left] = new
    v[2] = v[2] ^ np.uint64(0xFF)
    v = _rounds(v, 4)
    out = np.empty(len(strings), np.uint64)
    out[order] = v[0] ^ v[1] ^ v[2] ^ v[3]
    return out


def _rotate(value: Array, bits: int) -> Array:
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


def _rounds(v: list[Array], count: int) -> list[Array]:
    a, b, c, d = v
    for _ in range(count):
        a, c = a + b, c + d
        b, d = _rotate(b, 13) ^ a, _rotate(d, 16) ^ c
        a, c = _rotate(a, 32) + d, c + b
        b, d = _rotate(b, 17) ^ c, _rotate(d, 21) ^ a
        c = _rotate(c, 32)
    return [a, b, c, d]
