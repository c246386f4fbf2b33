"""Lookup tables and hashes: words to ids, ids to words, anything to buckets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument
from ladle.serving.servables.host.farmhash import fingerprint64, fingerprint_cat64
from ladle.serving.servables.host.siphash import siphash
from ladle.serving.servables.host.strings import array_of

Attributes = Mapping[str, Any]
Function = Callable[..., Any]


class Table:
    """A lookup table: keys [n] -> values [n, ...]."""

    def __init__(self, keys: Array, values: Array) -> None:
        self._values = values
        self._rows = {key: row for row, key in enumerate(keys.tolist())}
        # Ids that count from 0 need no dictionary.
        self._counts = keys.dtype.kind in "iu" and bool((keys == np.arange(len(keys))).all())

    def find(self, keys: Array, default: Array) -> Array:
        """The value of each key, or the default."""
        missing = len(self._values)
        if self._counts:
            rows = np.where((keys >= 0) & (keys < missing), keys, missing)
        else:
            get = self._rows.get
            rows = np.fromiter([get(key, missing) for key in keys.ravel().tolist()], np.int64, keys.size)
        if self._values.dtype == object:
            values = np.empty(missing + 1, object)
            values[:missing] = self._values
            values[missing] = default.item()
        else:
            values = np.concatenate([self._values, default.reshape(1, *self._values.shape[1:])])
        found: Array = values[rows.reshape(keys.shape).astype(np.int64)]
        return found


def _find(attributes: Attributes) -> Function:
    """Its first input is a Table rather than an array."""
    return lambda table, keys, default: table.find(keys, default)


def _bucket(hashes: Array, buckets: int, shape: tuple[int, ...]) -> Array:
    return (hashes % np.uint64(buckets)).astype(np.int64).reshape(shape)


def _bucket_fast(attributes: Attributes) -> Function:
    buckets = int(attributes["num_buckets"])
    return lambda texts: _bucket(fingerprint64(texts.ravel().tolist()), buckets, texts.shape)


def _bucket_strong(attributes: Attributes) -> Function:
    buckets, (low, high) = int(attributes["num_buckets"]), attributes["key"]
    return lambda texts: _bucket(siphash(texts.ravel().tolist(), (int(low), int(high))), buckets, texts.shape)


def _sparse_cross(attributes: Attributes) -> Function:
    """Crosses of dense columns, hashed: every combination of a row's values, one of each column."""
    if int(attributes.get("N", 0)) or not attributes.get("hashed_output"):
        raise ValueError("sparse columns, or crosses that are not hashed")
    buckets, seed = int(attributes["num_buckets"]), np.uint64(int(attributes["hash_key"]) % 2**64)

    def cross(*columns: Array) -> tuple[Array, Array, Array]:
        count = len(columns[0])
        if any(column.ndim != 2 or len(column) != count for column in columns):
            raise InvalidArgument(f"Expected batch size {count} in columns of shape [batch, n]")
        hashes = np.full((count, 1), seed, np.uint64)
        for column in columns:
            own = (
                fingerprint64(column.ravel().tolist()).reshape(column.shape)
                if column.dtype == object
                else column.astype(np.int64).view(np.uint64)
            )
            crossed = fingerprint_cat64(hashes[:, :, np.newaxis], own[:, np.newaxis, :])
            hashes = crossed.reshape(count, hashes.shape[1] * own.shape[1])
        ids = hashes % np.uint64(buckets or 2**63 - 1)
        wide = hashes.shape[1]
        rows, columns_at = np.divmod(np.arange(ids.size), max(1, wide))
        indices = np.stack([rows, columns_at], axis=1).astype(np.int64)
        return indices, ids.ravel().astype(np.int64), np.array([count, wide if count else 0], np.int64)

    return cross


OPERATIONS: dict[str, Callable[[Attributes], Function]] = {
    "LookupTableFindV2": _find,
    "LookupTableFind": _find,
    "StringToHashBucketFast": _bucket_fast,
    "StringToHashBucketStrong": _bucket_strong,
    "SparseCross": _sparse_cross,
}
__all__ = ["OPERATIONS", "Table", "array_of"]
