"""Rows of requests: counted, merged before a run, split after it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import FailedPrecondition, InvalidArgument
from ladle.serving.servables.batching_parameters import Batching
from ladle.serving.servables.latency import size_of

Tensors = Mapping[str, Array]
_SMALL_OUTPUTS = 2**10  # elements of a merged run up to which the rows of all requests are encoded together


def count_rows(inputs: Tensors, batching: Batching) -> int:
    """Rows of a request; InvalidArgument, in TensorFlow Serving's words, when they differ or are too many."""
    rows = -1
    for array in inputs.values():
        if not array.ndim:
            raise InvalidArgument("Batching Run() input tensors must have at least one dimension")
        if rows not in (-1, array.shape[0]):
            raise InvalidArgument("Batching Run() input tensors must have equal 0th-dimension size")
        rows = array.shape[0]
    if rows < 0:
        raise InvalidArgument("Batching Run() must have at least one input tensor")
    if rows > batching.max_batch_size:
        raise InvalidArgument(f"Task size {rows} is larger than maximum input batch size {batching.max_batch_size}")
    return rows


def rows_of(inputs: Tensors) -> int:
    """Rows of the first input; 1 for a scalar, or when there are no inputs."""
    first = next(iter(inputs.values()), None)
    return len(first) if first is not None and first.ndim else 1


def bytes_of(inputs: Tensors) -> int:
    """About how much memory the inputs take."""
    return sum(
        array.nbytes + (sum(map(len, array.ravel().tolist())) if array.dtype == object else 0)
        for array in inputs.values()
    )


def merge_key(outputs: Sequence[str], inputs: Tensors, batching: Batching) -> Hashable:
    """Equal for requests to a signature that may be merged: same outputs, and inputs that differ only in their rows.

    With padding, inner sizes may differ too; the number of dimensions may not.
    """
    names = frozenset(outputs)
    if batching.pad_variable_length_inputs:
        return names, frozenset((alias, array.ndim) for alias, array in inputs.items())
    return names, frozenset((alias, array.shape[1:]) for alias, array in inputs.items())


def merge(requests: Sequence[Tensors], padding: int = 0, pad_inner: bool = False) -> dict[str, Array]:
    """The rows of all requests, concatenated along the first axis.

    padding    rows to append: copies of the last request's first row, as TensorFlow Serving pads
    pad_inner  pads inner sizes to the largest, with each tensor's own first element
    """
    merged = {}
    for alias in requests[0]:
        arrays = [request[alias] for request in requests]
        if pad_inner:
            arrays = _pad_inner(arrays)
        if padding:
            arrays.append(np.repeat(arrays[-1][:1], padding, axis=0))
        merged[alias] = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
    return merged


def _pad_inner(arrays: list[Array]) -> list[Array]:
    largest = tuple(map(max, zip(*(array.shape[1:] for array in arrays), strict=True)))
    return [array if array.shape[1:] == largest else _pad_to(array, largest) for array in arrays]


def _pad_to(array: Array, inner: tuple[int, ...]) -> Array:
    padded = np.empty((len(array), *inner), array.dtype)
    padded[...] = array.flat[0] if array.size else (b"" if array.dtype == object else np.zeros((), array.dtype))
    padded[tuple(map(slice, array.shape))] = array
    return padded


class RowView(Mapping[str, Array]):
    """One request's outputs: row `at` of the outputs of a merged run. An alias gives its array [1, ...].

    whole  the outputs of all requests, by alias
    cache  shared by the views of one run: the first request encodes the rows of all, the others find them here
    """

    __slots__ = ("at", "cache", "whole")

    def __init__(self, whole: Tensors, cache: dict[str, Any], at: int) -> None:
        self.whole, self.cache, self.at = whole, cache, at

    def __getitem__(self, alias: str) -> Array:
        return self.whole[alias][self.at : self.at + 1]

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole)

    def __len__(self) -> int:
        return len(self.whole)

    def is_small(self) -> bool:
        """Whether the outputs are small enough to encode the rows of all requests at once."""
        if "is_small" not in self.cache:
            self.cache["is_small"] = size_of(self.whole) <= _SMALL_OUTPUTS
        return bool(self.cache["is_small"])


def split(outputs: Tensors, sizes: Sequence[int], padding: int = 0) -> list[Tensors]:
    """The outputs of each request, by its rows; FailedPrecondition unless outputs have one row per input row."""
    rows = sum(sizes) + padding
    for array in outputs.values():
        if not array.ndim:
            raise FailedPrecondition("Batched output tensor has 0 dimensions")
        if len(array) != rows:
            raise FailedPrecondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                "input tensors"
            )
    if len(sizes) == 1 and not padding:
        return [dict(outputs)]
    parts: list[Tensors] = []
    cache: dict[str, Any] = {}
    start = 0
    if padding:
        outputs = {alias: array[: rows - padding] for alias, array in outputs.items()}
    for size in sizes:
        if size == 1 < len(sizes):
            parts.append(RowView(outputs, cache, start))
        else:
            parts.append({alias: array[start : start + size] for alias, array in outputs.items()})
        start += size
    return parts


def cut(inputs: Tensors, rows: int, first: int, limit: int) -> list[Tensors]:
    """A large request in parts: `first` rows that fill a waiting batch, then at most `limit` rows each."""
    parts: list[Tensors] = []
    start = 0
    while start < rows:
        size = min(first if not start and first else limit, rows - start)
        parts.append({alias: array[start : start + size] for alias, array in inputs.items()})
        start += size
    return parts


def join(parts: Sequence[Tensors]) -> dict[str, Array]:
    """The outputs of a request that ran in parts, concatenated along the first axis."""
    return {alias: np.concatenate([part[alias] for part in parts]) for alias in parts[0]}
