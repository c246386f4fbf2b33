"""Hashes of strings are TensorFlow's, bit by bit."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ladle.serving.servables.host.farmhash import fingerprint64
from ladle.serving.servables.host.siphash import siphash

_BUCKETS = 2**63 - 25  # a large prime: nearly every bit of a hash shows

LENGTHS = [*range(140), 191, 192, 193, 255, 256, 257, 4095, 4096, 4097]


def _array(strings: list[bytes]) -> np.ndarray:
    array = np.empty(len(strings), object)
    array[:] = strings
    return array


def _assert_same(strings: list[bytes], key: tuple[int, int]) -> None:
    texts = tf.constant(_array(strings))
    fast = tf.strings.to_hash_bucket_fast(texts, _BUCKETS).numpy()
    np.testing.assert_array_equal((fingerprint64(strings) % np.uint64(_BUCKETS)).astype(np.int64), fast)
    strong = tf.strings.to_hash_bucket_strong(texts, _BUCKETS, list(key)).numpy()
    np.testing.assert_array_equal((siphash(strings, key) % np.uint64(_BUCKETS)).astype(np.int64), strong)


def test_hashes_of_every_length_are_those_of_tensorflow() -> None:
    random = np.random.default_rng(0)
    _assert_same([random.bytes(length) for length in LENGTHS for _ in range(3)], (2**62 + 5, -3))


@settings(max_examples=40)
@given(st.lists(st.one_of(st.binary(max_size=200), st.text(max_size=60).map(lambda text: text.encode())), min_size=1))
def test_hashes_of_any_bytes_are_those_of_tensorflow(strings: list[bytes]) -> None:
    _assert_same(strings, (1, 2))


def test_no_strings_have_no_hashes() -> None:
    assert fingerprint64([]).shape == siphash([], (1, 2)).shape == (0,)
