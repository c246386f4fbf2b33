"""Serialized tf.Example messages and raw bytes, parsed as TensorFlow parses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from ladle.clients.wire import messages as pb
from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument
from ladle.serving.servables.host.limits import check_number, check_size
from ladle.serving.servables.host.strings import array_of, bytes_of

Attributes = Mapping[str, Any]
Function = Callable[..., Any]

_Rows = Sequence[Sequence[Any] | None]
_LISTS = {"float32": "float_list", "int64": "int64_list", "string": "bytes_list"}
_WORDS = {"float32": "float", "int64": "int64", "string": "string"}


class _Column:
    """The values of one feature in every example."""

    def __init__(self, key: bytes, dtype: str) -> None:
        self.key, self.dtype, self._list = key.decode(), dtype, _LISTS[dtype]

    def values(self, features: Any, row: int) -> Sequence[Any] | None:
        """The values in an example's features; None where there is no such feature."""
        if self.key not in features:
            return None
        kind = features[self.key].WhichOneof("kind")
        if kind is None:
            return None
        if kind != self._list:
            raise InvalidArgument(
                f"Name: <unknown>, Key: {self.key}, Index: {row}.  Data types don't match. "
                f"Expected type: {_WORDS[self.dtype]}"
            )
        found: list[Any] = getattr(features[self.key], kind).value[:]  # a list: it must not keep the message
        return found

    def array(self, values: Sequence[Any], shape: Sequence[int]) -> Array:
        if self.dtype == "string":
            return array_of(list(values), shape)
        return np.array(values, np.dtype(self.dtype)).reshape(shape)


def _sparse(column: _Column, given: _Rows) -> tuple[Array, Array, Array]:
    """Indices int64 [n, 2], values [n] and shape [2] of a feature of any length."""
    rows = [values or () for values in given]
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    total = int(lengths.sum())
    indices = np.empty((total, 2), np.int64)
    indices[:, 0] = np.repeat(np.arange(len(rows)), lengths)
    indices[:, 1] = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    values = column.array([value for row in rows for value in row], [total])
    return indices, values, np.array([len(rows), lengths.max(initial=0)], np.int64)


def _ragged(column: _Column, given: _Rows, splits: np.dtype[Any]) -> tuple[Array, Array]:
    rows = [values or () for values in given]
    ends = np.cumsum([0, *map(len, rows)]).astype(splits)
    return column.array([value for row in rows for value in row], [int(ends[-1])]), ends


def _dense(column: _Column, given: _Rows, shape: Sequence[int], default: Array) -> Array:
    size = int(np.prod(shape))
    check_size([len(given), size])
    every: list[Any] = []
    for row, values in enumerate(given):
        if values is None:
            if default.size != size and default.size != 1:
                raise InvalidArgument(
                    f"Name: <unknown>, Feature: {column.key} (data type: {_WORDS[column.dtype]}) is required but could "
                    "not be found."
                )
            filled = default.ravel().tolist()
            every += filled if len(filled) == size else filled * size
        elif len(values) != size:
            raise InvalidArgument(
                f"Name: <unknown>, Key: {column.key}, Index: {row}.  Number of {_WORDS[column.dtype]} values != "
                f"expected.  values size: {len(values)} but output shape: [{','.join(map(str, shape))}]"
            )
        else:
            every += values
    return column.array(every, [len(given), *shape])


def _read(serialized: Array, columns: Sequence[_Column]) -> list[_Rows]:
    """The values of each column in each example. One message is there at a time: it takes many times its bytes."""
    rows: list[list[Sequence[Any] | None]] = [[] for _ in columns]
    try:
        for row, text in enumerate(serialized.ravel().tolist()):
            check_number(text)
            features = pb.Example.FromString(text).features.feature
            for column, found in zip(columns, rows, strict=True):
                found.append(column.values(features, row))
    except DecodeError:
        raise InvalidArgument("Could not parse example input: not a serialized tf.Example") from None
    return list(rows)


def _shapes(attributes: Attributes) -> list[list[int]]:
    shapes = [list(shape) for shape in attributes["dense_shapes"]]
    if any(size is None or size < 0 for shape in shapes for size in shape):
        raise ValueError("dense features of free length")
    return shapes


def _parse(
    serialized: Array,
    sparse: Sequence[_Column],
    dense: Sequence[_Column],
    ragged: Sequence[_Column],
    shapes: Sequence[Sequence[int]],
    defaults: Sequence[Array],
    splits: Sequence[str] = (),
) -> tuple[Array, ...]:
    if serialized.ndim > 1:
        raise InvalidArgument(f"Input serialized must be a scalar or a vector; got shape {list(serialized.shape)}")
    rows = iter(_read(serialized, [*sparse, *dense, *ragged]))
    is_single = serialized.ndim == 0
    found = [_sparse(column, next(rows)) for column in sparse]
    if is_single:
        found = [(indices[:, 1:], values, shape[1:]) for indices, values, shape in found]
    parsed = [
        _dense(column, next(rows), shape, default)
        for column, shape, default in zip(dense, shapes, defaults, strict=True)
    ]
    ragged_parts = [_ragged(column, next(rows), np.dtype(kind)) for column, kind in zip(ragged, splits, strict=True)]
    return (
        *(indices for indices, _, _ in found),
        *(values for _, values, _ in found),
        *(shape for _, _, shape in found),
        *(array[0] if is_single else array for array in parsed),
        *(values for values, _ in ragged_parts),
        *(ends for _, ends in ragged_parts),
    )


def _columns(keys: Sequence[bytes], dtypes: Sequence[str]) -> list[_Column]:
    return [_Column(key, dtype) for key, dtype in zip(keys, dtypes, strict=True)]


def _parse_example_v2(attributes: Attributes) -> Function:
    shapes = _shapes(attributes)

    def parse(
        serialized: Array, names: Array, sparse_keys: Array, dense_keys: Array, ragged_keys: Array, *defaults: Array
    ) -> tuple[Array, ...]:
        sparse = _columns(sparse_keys.tolist(), attributes["sparse_types"])
        dense = _columns(dense_keys.tolist(), attributes["Tdense"])
        ragged = _columns(ragged_keys.tolist(), attributes["ragged_value_types"])
        return _parse(serialized, sparse, dense, ragged, shapes, defaults, attributes["ragged_split_types"])

    return parse


def _parse_example(attributes: Attributes) -> Function:
    shapes, sparse_count, dense_count = _shapes(attributes), int(attributes["Nsparse"]), int(attributes["Ndense"])

    def parse(serialized: Array, names: Array, *others: Array) -> tuple[Array, ...]:
        keys = [key.item() for key in others[: sparse_count + dense_count]]
        sparse = _columns(keys[:sparse_count], attributes["sparse_types"])
        dense = _columns(keys[sparse_count:], attributes["Tdense"])
        return _parse(serialized, sparse, dense, (), shapes, others[sparse_count + dense_count :])

    return parse


def _parse_single_example(attributes: Attributes) -> Function:
    shapes = _shapes(attributes)
    sparse = _columns([bytes_of(key) for key in attributes["sparse_keys"]], attributes["sparse_types"])
    dense = _columns([bytes_of(key) for key in attributes["dense_keys"]], attributes["Tdense"])
    return lambda serialized, *defaults: _parse(serialized.reshape(()), sparse, dense, (), shapes, defaults)


def _decode_raw(attributes: Attributes) -> Function:
    dtype = np.dtype(attributes["out_type"])
    order = dtype.newbyteorder("<" if attributes.get("little_endian", True) else ">")

    def decode(texts: Array) -> Array:
        every = texts.ravel().tolist()
        sizes = {len(text) for text in every}
        if len(sizes) > 1:
            raise InvalidArgument("DecodeRaw requires input strings to all be the same size")
        size = sizes.pop() if sizes else 0
        if size % dtype.itemsize:
            raise InvalidArgument(
                f"Input to DecodeRaw has length {size} that is not a multiple of {dtype.itemsize}, the size of "
                f"{attributes['out_type']}"
            )
        return np.frombuffer(b"".join(every), order).astype(dtype).reshape(*texts.shape, size // dtype.itemsize)

    return decode


def _decode_padded_raw(attributes: Attributes) -> Function:
    """Texts of any length as numbers: cut, or filled up with zeros, to so many bytes."""
    dtype = np.dtype(attributes["out_type"])
    order = dtype.newbyteorder("<" if attributes.get("little_endian", True) else ">")

    def decode(texts: Array, length: Array) -> Array:
        size = int(length)
        if size <= 0 or size % dtype.itemsize:
            raise InvalidArgument(
                f"fixed_length ({size}) must be greater than zero and a multiple of the size of "
                f"{attributes['out_type']} ({dtype.itemsize})"
            )
        check_size([texts.size, size])
        filled = b"".join(text[:size].ljust(size, b"\0") for text in texts.ravel().tolist())
        return np.frombuffer(filled, order).astype(dtype).reshape(*texts.shape, size // dtype.itemsize)

    return decode


def _decode_json(texts: Array) -> Array:
    """tf.Examples in JSON become serialized ones; features in the order of their names."""
    from google.protobuf import json_format  # few models read JSON

    def serialized(text: bytes) -> bytes:
        try:
            if not text.lstrip().startswith(b"{"):
                raise ValueError
            made: bytes = json_format.Parse(text, pb.Example()).SerializeToString(deterministic=True)
        except (json_format.ParseError, UnicodeDecodeError, RecursionError, ValueError):
            raise InvalidArgument("Error while parsing JSON: the text is no tf.Example") from None
        return made

    return array_of([serialized(text) for text in texts.ravel().tolist()], texts.shape)


OPERATIONS: dict[str, Callable[[Attributes], Function]] = {
    "ParseExampleV2": _parse_example_v2,
    "ParseExample": _parse_example,
    "ParseSingleExample": _parse_single_example,
    "DecodeRaw": _decode_raw,
    "DecodePaddedRaw": _decode_padded_raw,
    "DecodeJSONExample": lambda attributes: _decode_json,
}
