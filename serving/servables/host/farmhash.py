"""Fingerprint64 of FarmHash, by which TensorFlow hashes strings into buckets; many strings at once.

Source  FarmHash's namespace farmhashna (Pike, 2014), which TensorFlow calls Fingerprint64
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ladle.clients.wire.arrays import Array

_K0, _K1, _K2 = (np.uint64(k) for k in (0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F))
_CAT = np.uint64(0xC6A4A7935BD1E995)
_SEED = 81


class Bytes:
    """Strings in one buffer, for reading integers at many places at once.

    starts, lengths  of the strings, int64 [n]
    """

    def __init__(self, strings: Sequence[bytes]) -> None:
        self.lengths = np.fromiter(map(len, strings), np.int64, len(strings))
        self.starts = np.cumsum(self.lengths) - self.lengths
        buffer = np.frombuffer(b"".join(strings) + bytes(8), np.uint8)  # the last integer may reach beyond the end
        self._windows = np.lib.stride_tricks.sliding_window_view(buffer, 8)
        self._bytes = buffer

    def uint64(self, at: Array) -> Array:
        """The little-endian integers at these offsets."""
        found: Array = self._windows[at].view("<u8")[..., 0]
        return found

    def uint32(self, at: Array) -> Array:
        """The same, of four bytes, as uint64."""
        found: Array = self._windows[at].view("<u4")[..., 0]
        return np.asarray(found, np.uint64)

    def uint8(self, at: Array) -> Array:
        """The bytes at these offsets, as uint64."""
        return np.asarray(self._bytes[at], np.uint64)


def fingerprint64(strings: Sequence[bytes]) -> Array:
    """The fingerprint of each string, uint64 [n]."""
    data = Bytes(strings)
    out = np.empty(len(strings), np.uint64)
    lower = -1
    for upper, function in ((0, _empty), (3, _to_3), (7, _to_7), (16, _to_16), (32, _to_32), (64, _to_64)):
        _fill(out, data, (data.lengths > lower) & (data.lengths <= upper), function)
        lower = upper
    _fill(out, data, data.lengths > lower, _longer)
    return out


def fingerprint_cat64(first: Array, second: Array) -> Array:
    """The fingerprint of two fingerprints, one after the other: TensorFlow's FingerprintCat64."""
    result = first ^ _CAT
    result = (result ^ _shift_mix(second * _CAT) * _CAT) * _CAT
    return _shift_mix(_shift_mix(result) * _CAT)


def _fill(out: Array, data: Bytes, chosen: Array, function: object) -> None:
    places = np.flatnonzero(chosen)
    if places.size:
        lengths = data.lengths[places]
        out[places] = function(data, data.starts[places], lengths, lengths.astype(np.uint64))  # type: ignore[operator]


def _rotate(value: Array, bits: int) -> Array:
    return (value >> np.uint64(bits)) | (value << np.uint64(64 - bits))


def _shift_mix(value: Array) -> Array:
    mixed: Array = value ^ (value >> np.uint64(47))
    return mixed


def _hash_16(u: Array, v: Array, mul: Array) -> Array:
    a = _shift_mix((u ^ v) * mul)
    return _shift_mix((v ^ a) * mul) * mul


def _empty(data: Bytes, start: Array, length: Array, n: Array) -> Array:
    return np.full(len(start), _K2)


def _to_3(data: Bytes, start: Array, length: Array, n: Array) -> Array:
    a, b, c = data.uint8(start), data.uint8(start + length // 2), data.uint8(start + length - 1)
    y = a + (b << np.uint64(8))
    z = n + (c << np.uint64(2))
    return _shift_mix(y * _K2 ^ z * _K0) * _K2


def _to_7(data: Bytes, start: Array, length: Array, n: Array) -> Array:
    mul = _K2 + n * np.uint64(2)
    return _hash_16(n + (data.uint32(start) << np.uint64(3)), data.uint32(start + length - 4), mul)


def _to_16(data: Bytes, start: Array, length: Array, n: Array) -> Array:
    mul = _K2 + n * np.uint64(2)
    a, b = data.uint64(start) + _K2, data.uint64(start + length - 8)
    return _hash_16(_rotate(b, 37) * mul + a, (_rotate(a, 25) + b) * mul, mul)


def _to_32(data: Bytes, start: Array, length: Array, n: Array) -> Array:
    mul = _K2 + n * np.uint64(2)
    a, b = data.uint64(start) * _K1, data.uint64(start + 8)
    c, d = data.uint64(start + length - 8) * mul, data.uint64(start + length - 16) * _K2
    return _hash_16(_rotate(a + b, 43) + _rotate(c, 30) + d, a + _rotate(b + _K2, 18) + c, mul)


def _to_64(data: Bytes, start: Array, length: Array, n: Array) -> Array:
    mul, end = _K2 + n * np.uint64(2), start + length
    a, b = data.uint64(start) * _K2, data.uint64(start + 8)
    c, d = data.uint64(end - 8) * mul, data.uint64(end - 16) * _K2
    y = _rotate(a + b, 43) + _rotate(c, 30) + d
    z = _hash_16(y, a + _rotate(b + _K2, 18) + c, mul)
    e, f = data.uint64(start + 16) * mul, data.uint64(start + 24)
    g, h = (y + data.uint64(end - 32)) * mul, (z + data.uint64(end - 24)) * mul
    return _hash_16(_rotate(e + f, 43) + _rotate(g, 30) + h, e + _rotate(f + a, 18) + g, mul)


def _weak(data: Bytes, at: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Of 32 bytes, with two seeds."""
    w, x, y, z = (data.uint64(at + 8 * i) for i in range(4))
    a = a + w
    b = _rotate(b + a + z, 21)
    c = a
    a = a + x + y
    return a + z, b + _rotate(a, 44) + c


def _longer(data: Bytes, start: Array, length: Array, n: Array) -> Array:
    """Of more than 64 bytes. The longest come first, so that those with a block left are always the first ones."""
    order = np.argsort(-length, kind="stable")
    start, length = start[order], length[order]
    blocks = (length - 1) // 64
    seed = np.full(len(start), _SEED, np.uint64)
    state = np.empty((7, len(start)), np.uint64)  # x, y, z, v, v, w, w
    y = seed * _K1 + np.uint64(113)
    state[:] = seed * _K2 + data.uint64(start), y, _shift_mix(y * _K2 + np.uint64(113)) * _K2, *[0 * seed] * 4
    for block in range(int(blocks[0])):
        left = int(np.searchsorted(-blocks, -block, side="left"))  # strings with more than `block` blocks
        state[:, :left] = _mix(data, start[:left] + 64 * block, state[:, :left], _K1, np.uint64(1))
    x, y, z, v0, v1, w0, w1 = state
    mul = _K1 + ((z & np.uint64(0xFF)) << np.uint64(1))
    last = start + 64 * blocks + ((length - 1) & 63) - 63
    w0 = w0 + ((length - 1) & 63).astype(np.uint64)
    v0 = v0 + w0
    w0 = w0 + v0
    x, y, z, v0, v1, w0, w1 = _mix(data, last, np.stack([x, y, z, v0, v1, w0, w1]), mul, np.uint64(9))
    found = _hash_16(
        _hash_16(v0, w0, mul) + _shift_mix(y) * _K0 + z,
        _hash_16(v1, w1, mul) + x,
        mul,
    )
    out = np.empty_like(found)
    out[order] = found
    return out


def _mix(data: Bytes, at: Array, state: Array, mul: Array | np.uint64, nine: np.uint64) -> Array:
    """One block of 64 bytes. The last block of a string counts some parts nine times."""
    x, y, z, v0, v1, w0, w1 = state
    x = _rotate(x + y + v0 + data.uint64(at + 8), 37) * mul
    y = _rotate(y + v1 + data.uint64(at + 48), 42) * mul
    x = x ^ (w1 * nine)
    y = y + v0 * nine + data.uint64(at + 40)
    z = _rotate(z + w0, 33) * mul
    v0, v1 = _weak(data, at, v1 * mul, x + w0)
    w0, w1 = _weak(data, at + 32, z + w1, y + data.uint64(at + 16))
    return np.stack([z, y, x, v0, v1, w0, w1])
