"""The seeded normal noise of TensorFlow's stateless generator, in NumPy: Philox 4x32-10 and Box-Muller.

Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3". The key is derived from the seed as
tf.random.stateless_normal(alg="philox") does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

U32 = NDArray[np.uint32]
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLY = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_SCRAMBLE_KEY = 0x02461E293EC8F720


def stateless_normal(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """The result of tf.random.stateless_normal(shape, seed=[seed, 0], alg="philox"), float32, to within 1e-6.

    seed  any int64
    """
    # TensorFlow scrambles the seed with one Philox block, and takes key and counter from its words.
    mix = _blocks(_SCRAMBLE_KEY, seed % 2**64, 0, 1)[0].astype(np.uint64)
    key = int(mix[0] | mix[1] << _SHIFT)
    high = int(mix[2] | mix[3] << _SHIFT)
    count = int(np.prod(shape))
    bits = _blocks(key, 0, high, -(-count // 4)).reshape(-1, 2)  # [pairs, 2]
    # 23 random bits under the exponent of 1.0 make a float in [1, 2).
    uniform = ((bits & np.uint32(0x7FFFFF)) | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)
    radius = np.sqrt(np.float32(-2) * np.log(np.maximum(uniform[:, 0], np.float32(1e-7))))
    angle = (2 * np.pi * uniform[:, 1].astype(np.float64)).astype(np.float32)
    pairs = np.stack([np.sin(angle) * radius, np.cos(angle) * radius], axis=1)
    return pairs.reshape(-1)[:count].reshape(shape)


def _blocks(key: int, low: int, high: int, count: int) -> U32:
    """`count` blocks of four words, uint32 [count, 4], counting up from (low, high), 64 bits each."""
    start = low + (high << 64)
    if low + count < 2**64:
        words = np.uint64(low) + np.arange(count, dtype=np.uint64)
        top = np.full(count, high, dtype=np.uint64)
    else:
        counters = [(start + i) % 2**128 for i in range(count)]
        words = np.array([c % 2**64 for c in counters], dtype=np.uint64)
        top = np.array([c >> 64 for c in counters], dtype=np.uint64)
    c0, c1, c2, c3 = words & _LOW, words >> _SHIFT, top & _LOW, top >> _SHIFT
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        first, second = c0 * _MULTIPLY[0], c2 * _MULTIPLY[1]
        c0, c1, c2, c3 = (
            (second >> _SHIFT) ^ c1 ^ np.uint64(k0),
            second & _LOW,
            (first >> _SHIFT) ^ c3 ^ np.uint64(k1),
            first & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)
