"""Rows of different lengths: counted, and padded to one length."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument
from ladle.serving.servables.host.limits import check_size

Attributes = Mapping[str, Any]
Function = Callable[..., Any]


def _to_tensor(attributes: Attributes) -> Function:
    """RaggedTensorToTensor: values and the partitions of their rows -> a dense tensor, padded with a default."""
    kinds = list(attributes["row_partition_types"])
    first = kinds[0] == "FIRST_DIM_SIZE"
    if not set(kinds[1:] if first else kinds) <= {"VALUE_ROWIDS", "ROW_SPLITS"}:
        raise ValueError(f"row_partition_types {kinds}")

    def to_tensor(shape: Array, values: Array, default: Array, *partitions: Array) -> Array:
        sizes, levels = [], list(partitions)
        rows = int(levels.pop(0)) if first else len(partitions[0]) - 1
        if not first and kinds[0] == "VALUE_ROWIDS":
            raise InvalidArgument("row ids without the number of rows")
        sizes.append(rows)
        index: list[Array] = []
        for kind, partition in zip(kinds[1:] if first else kinds, levels, strict=True):
            if kind == "ROW_SPLITS":
                row_of = np.repeat(np.arange(len(partition) - 1), np.diff(partition))
            else:
                row_of = partition.astype(np.int64)
            counts = np.bincount(row_of, minlength=rows)
            starts = np.cumsum(counts) - counts
            inner = np.arange(len(row_of)) - starts[row_of]
            index = [each[row_of] for each in index] if index else [row_of]
            index.append(inner)
            sizes.append(int(counts.max(initial=0)))
            rows = len(row_of)
        wanted = shape.tolist() if shape.ndim else []
        full = [*sizes, *values.shape[1:]]
        if wanted:
            if len(wanted) != len(full):
                raise InvalidArgument(f"shape {wanted} and ragged values of rank {len(full)} are not compatible")
            full = [size if want < 0 else want for want, size in zip(wanted, full, strict=True)]
        check_size(full)
        out = np.empty(full, values.dtype)
        out[...] = default.item() if default.ndim == 0 else default
        fits = np.ones(len(values), np.bool_)
        for each, size in zip(index, full, strict=False):
            fits &= each < size
        kept = tuple(each[fits] for each in index)
        if values.ndim > 1 and list(values.shape[1:]) != full[len(index) :]:
            raise InvalidArgument(f"shape {wanted} and values of shape {list(values.shape)} are not compatible")
        out[kept] = values[fits]
        return out

    return to_tensor


def _to_sparse(*arrays: Array) -> tuple[Array, Array, Array]:
    """RaggedTensorToSparse: ends of rows, level by level, and values -> places, values, shape."""
    *splits, values = arrays
    index: list[Array] = []
    sizes = [len(splits[0]) - 1]
    for level in splits:
        row_of = np.repeat(np.arange(len(level) - 1), np.diff(level))
        index = [each[row_of] for each in index] if index else [row_of]
        index.append(np.arange(len(row_of)) - level[row_of])
        sizes.append(int(np.diff(level).max(initial=0)))
    if values.ndim != 1:
        raise InvalidArgument(f"ragged values of rank {values.ndim} run on TensorFlow only")
    return np.stack(index, 1).astype(np.int64), values, np.array(sizes, np.int64)


def _count(rows: Array, ids: Array, shape: tuple[int, int], weights: Array, dtype: Any, binary: bool) -> Array:
    check_size(shape)
    if (ids < 0).any():
        raise InvalidArgument("Input arr must be non-negative!")
    out = np.zeros(shape, dtype)
    inside = ids < shape[1]
    if binary:
        out[rows[inside], ids[inside]] = 1
    else:
        np.add.at(out, (rows[inside], ids[inside]), weights[inside] if weights.size else np.ones((), dtype))
    return out


def _dense_bincount(attributes: Attributes) -> Function:
    dtype, binary = np.dtype(attributes.get("T", "int64")), bool(attributes.get("binary_output", False))

    def bincount(ids: Array, size: Array, weights: Array) -> Array:
        if int(size) < 0:
            raise InvalidArgument(f"size ({int(size)}) must be non-negative")
        table = ids.reshape(
            math.prod(ids.shape[:-1]), ids.shape[-1]
        )  # -1 for the rows is refused where there are no ids
        rows = np.repeat(np.arange(len(table)), table.shape[1])
        out = _count(rows, table.ravel(), (len(table), int(size)), weights.ravel(), dtype, binary)
        return out if ids.ndim > 1 else out[0]

    return bincount


def _ragged_bincount(attributes: Attributes) -> Function:
    dtype, binary = np.dtype(attributes.get("T", "int64")), bool(attributes.get("binary_output", False))

    def bincount(splits: Array, values: Array, size: Array, weights: Array) -> Array:
        rows = np.repeat(np.arange(len(splits) - 1), np.diff(splits))
        return _count(rows, values, (len(splits) - 1, int(size)), weights, dtype, binary)

    return bincount


OPERATIONS: dict[str, Callable[[Attributes], Function]] = {
    "RaggedTensorToTensor": _to_tensor,
    "RaggedTensorToSparse": lambda attributes: _to_sparse,
    "DenseBincount": _dense_bincount,
    "Bincount": lambda attributes: lambda ids, size, weights: _dense_bincount(attributes)(ids.ravel(), size, weights),
    "RaggedBincount": _ragged_bincount,
}
