"""The values of a Predict body to arrays: rows (`instances`) and columns (`inputs`), in TensorFlow Serving's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument, ServingError
from ladle.serving.rest.json import values
from ladle.serving.rest.json.text import quote
from ladle.serving.servables.saved_model import Signature, TensorInfo

_ROWS_AT_ONCE = 256  # read as one tensor while the row at fault is looked for


def read_document(document: Mapping[str, Any], signature: Signature) -> dict[str, Array]:
    """The inputs by alias. InvalidArgument or Unimplemented, in TensorFlow Serving's words."""
    rows, columns = "instances" in document, "inputs" in document
    if rows and columns:
        raise InvalidArgument(
            f"JSON Value: {quote(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if rows:
        return _read_rows(document["instances"], signature.inputs)
    if columns:
        return _read_columns(document["inputs"], signature.inputs)
    raise InvalidArgument("Missing 'inputs' or 'instances' key")


def _read_rows(rows: Any, inputs: Mapping[str, TensorInfo]) -> dict[str, Array]:
    if not isinstance(rows, list):
        raise InvalidArgument(f"JSON Value: {quote(rows)} Expecting 'instances' to be an list/array")
    if not rows:
        raise InvalidArgument(f"JSON Value: {quote(rows)} No values in 'instances' array")
    if _is_named(rows[0]):
        return _read_named_rows(rows, inputs)
    if len(inputs) != 1:
        raise InvalidArgument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    for i, row in enumerate(rows):
        if _is_named(row):
            raise InvalidArgument(f"Expecting value/list but got object at item {i} of input list")
    ((alias, info),) = inputs.items()
    return {alias: _stack(rows, info, "")}


def _read_named_rows(rows: list[Any], inputs: Mapping[str, TensorInfo]) -> dict[str, Array]:
    for i, row in enumerate(rows):
        if not _is_named(row):
            raise InvalidArgument(f"Expecting object but got list at item {i} of input list")
        for name in row:
            if name not in inputs:
                raise _in_row(i, name, InvalidArgument(f"JSON object: does not have named input: {name}"))
        if len(row) != len(inputs):
            raise InvalidArgument(
                f"Failed to process element: {i} of 'instances' list. JSON object: {quote(row)} keys must be equal to: "
                f"{_join(inputs)}"
            )
    return {alias: _stack([row[alias] for row in rows], info, alias) for alias, info in inputs.items()}


def _stack(rows: list[Any], info: TensorInfo, key: str) -> Array:
    """Rows of one shape as one tensor, batch axis first."""
    whole = values.read_regular(rows, info)
    if whole is not None:
        return whole
    arrays: list[Array] = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE]
        block = values.read_regular(some, info)
        if block is not None and (not arrays or block.shape[1:] == arrays[0].shape):
            arrays.extend(block)
            continue
        for i, row in enumerate(some, start):
            try:
                array = values.read(row, info)
                if arrays and array.size != arrays[0].size:
                    raise InvalidArgument(f"Expecting tensor size: {arrays[0].size} but got: {array.size}")
                if arrays and array.shape != arrays[0].shape:
                    raise InvalidArgument(f"Expecting shape {_shape(arrays[0])} but got: {_shape(array)}")
            except ServingError as error:
                raise _in_row(i, key, error) from None
            arrays.append(array)
    return np.stack(arrays)


def _read_columns(columns: Any, inputs: Mapping[str, TensorInfo]) -> dict[str, Array]:
    if not _is_named(columns):
        if len(inputs) != 1:
            raise InvalidArgument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        ((alias, info),) = inputs.items()
        return {alias: values.read(columns, info)}
    arrays = {}
    for alias, info in inputs.items():
        if alias not in columns:
            raise InvalidArgument(f"Missing named input: {alias} in 'inputs' object.")
        arrays[alias] = values.read(columns[alias], info)
    return arrays


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not values.is_base64(value)


def _in_row(i: int, key: str, error: ServingError) -> InvalidArgument:
    named = f" key: {key}" if key else ""
    return InvalidArgument(
        f"Failed to process element: {i}{named} of 'instances' list. Error: {error.code}: {error.message}"
    )


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _join(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
