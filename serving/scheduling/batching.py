"""Merges the inputs of concurrent requests into one run, and gives every request its own rows of the outputs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import FailedPrecondition, InvalidArgument
from ladle.serving.servables.batching_parameters import Batching

Tensors = Mapping[str, Array]

_TOGETHER = 2**10  # elements of a merged run whose rows are written together


class Rows(Mapping[str, Array]):
    """The outputs of a request whose row is row `at` of those of a merged run.

    whole  the outputs of all requests    made  what has been made of them, for whoever comes next
    """

    __slots__ = ("at", "made", "whole")

    def __init__(self, whole: Tensors, made: dict[str, Any], at: int) -> None:
        self.whole, self.made, self.at = whole, made, at

    def __getitem__(self, alias: str) -> Array:
        return self.whole[alias][self.at : self.at + 1]

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole)

    def __len__(self) -> int:
        return len(self.whole)

    def is_small(self) -> bool:
        """Whether it is worth it to write the rows of all requests for the first who asks for one."""
        if "is_small" not in self.made:
            self.made["is_small"] = sum(map(_weight, self.whole.values())) <= _TOGETHER
        return bool(self.made["is_small"])


def _weight(array: Array) -> int:
    """Elements of a tensor, of strings their bytes."""
    return sum(map(len, array.ravel().tolist())) if array.dtype == object else array.size


def count_rows(inputs: Tensors, batching: Batching) -> int:
    """Rows of a request; InvalidArgument, in upstream's words, when they cannot be told or are too many."""
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


def kind_of(outputs: Sequence[str], inputs: Tensors, batching: Batching) -> Hashable:
    """What requests for a signature must share to be merged: outputs, and inputs alike but for their rows.

    With padding the inner sizes may differ, never the number of dimensions.
    """
    names = frozenset(outputs)
    if batching.pad_variable_length_inputs:
        return names, frozenset((alias, array.ndim) for alias, array in inputs.items())
    return names, frozenset((alias, array.shape[1:]) for alias, array in inputs.items())


def merge(requests: Sequence[Tensors], padding: int = 0, pad_inner: bool = False) -> dict[str, Array]:
    """The rows of all requests, one below the other.

    padding    copies of the last request's first row that follow them
    pad_inner  brings inner sizes up to the largest with each tensor's own first element
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


def split(outputs: Tensors, sizes: Sequence[int], padding: int = 0) -> list[Tensors]:
    """The outputs of each request, by its number of rows; FailedPrecondition unless each row of input has one."""
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
    made: dict[str, Any] = {}
    start = 0
    if padding:
        outputs = {alias: array[: rows - padding] for alias, array in outputs.items()}
    for size in sizes:
        if size == 1 < len(sizes):
            parts.append(Rows(outputs, made, start))
        else:
            parts.append({alias: array[start : start + size] for alias, array in outputs.items()})
        start += size
    return parts


def cut(inputs: Tensors, rows: int, first: int, limit: int) -> list[Tensors]:
    """A large request in parts: `first` rows to fill a batch that waits, then at most `limit` each."""
    parts: list[Tensors] = []
    start = 0
    while start < rows:
        size = min(first if not start and first else limit, rows - start)
        parts.append({alias: array[start : start + size] for alias, array in inputs.items()})
        start += size
    return parts


def join(parts: Sequence[Tensors]) -> dict[str, Array]:
    """The outputs of a request that ran in parts."""
    return {alias: np.concatenate([part[alias] for part in parts]) for alias in parts[0]}
