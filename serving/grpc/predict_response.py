"""PredictResponse as bytes, without a message object: the parts that repeat from answer to answer are encoded once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.varints import varint
from ladle.serving.scheduling.rows import RowView

_OUTPUTS_TAG = b"\x0a"  # PredictResponse.outputs, a map; the keys of its entries have the same tag
_MAX_KEPT_BYTES = 256  # of a string whose entry is kept
_VALUE_TAG = b"\x12"  # the TensorProto of an entry


def encode_response(model: str, version: int, signature: str, outputs: Mapping[str, Array], content: bool) -> bytes:
    """A serialized PredictResponse.

    outputs  by alias
    content  write `tensor_content` instead of typed values
    """
    tail = _encode_model_spec(model, version, signature)
    if type(outputs) is RowView and outputs.is_small():
        # Most of the time goes into the calls, not the bytes: the first request encodes the rows of the whole run.
        if "messages" not in outputs.cache:
            outputs.cache["messages"] = _encode_rows(outputs.whole, content)
        messages: list[bytes] = outputs.cache["messages"]
        return messages[outputs.at] + tail
    layout = _layout(tuple([(alias, array.dtype, array.shape) for alias, array in outputs.items()]), content)
    if layout is not None:
        return b"".join([write(array) for write, array in zip(layout, outputs.values(), strict=True)]) + tail
    parts: list[bytes] = []
    others: dict[str, Array] = {}
    for alias, array in outputs.items():
        prefix = _raw_prefix(alias, array.dtype, array.shape, content)
        if prefix is not None:
            parts += (prefix, array.tobytes())
        else:
            others[alias] = array
    for alias, (head, values) in zip(others, tensors.serialize_each(others.values(), content), strict=True):
        parts += (_entry_prefix(alias, head, len(values)), values)
    parts.append(tail)
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _layout(
    outputs: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...], content: bool
) -> list[Callable[[Array], bytes]] | None:
    """What writes each output's entry; None unless each is raw or one value. Most requests have one row."""
    writers: list[Callable[[Array], bytes]] = []
    for alias, dtype, shape in outputs:
        prefix = _raw_prefix(alias, dtype, shape, content)
        if prefix is not None:
            writers.append(partial(_raw_entry, prefix))
        elif shape == (1,) and dtype.kind in "iuO":
            writers.append(partial(_one_entry, alias, dtype, content))
        else:
            return None
    return writers


def _raw_entry(prefix: bytes, array: Array) -> bytes:
    return prefix + array.tobytes()


def _one_entry(alias: str, dtype: np.dtype[Any], content: bool, array: Array) -> bytes:
    return _value_entry(alias, dtype, content, array.item())


def _value_entry(alias: str, dtype: np.dtype[Any], content: bool, value: Any) -> bytes:
    """The entry of an output [1]. Class ids and labels repeat from answer to answer."""
    if isinstance(value, int) or (isinstance(value, bytes | str) and len(value) <= _MAX_KEPT_BYTES):
        return _kept_entry(alias, dtype, content, value)
    return _new_entry(alias, dtype, content, value)


def _new_entry(alias: str, dtype: np.dtype[Any], content: bool, value: Any) -> bytes:
    array = np.empty(1, dtype)
    array[0] = value
    head, values = tensors.serialize_parts(array, content)
    return _entry_prefix(alias, head, len(values)) + values


_kept_entry = lru_cache(maxsize=4096)(_new_entry)


def _encode_rows(outputs: Mapping[str, Array], content: bool) -> list[bytes]:
    """The `outputs` entries of each row."""
    return [b"".join(entries) for entries in zip(*(_column(*each, content) for each in outputs.items()), strict=True)]


def _column(alias: str, array: Array, content: bool) -> list[bytes]:
    """The entry of each row of an output."""
    if array.ndim == 1 and array.dtype.kind in "iuO":
        return [_value_entry(alias, array.dtype, content, value) for value in array.tolist()]
    return [_entry_prefix(alias, head, len(values)) + values for head, values in tensors.serialize_rows(array, content)]


@lru_cache(maxsize=1024)
def _encode_model_spec(model: str, version: int, signature: str) -> bytes:
    """A response with nothing but its ModelSpec. Protobuf fields may come in any order, so any response may end so."""
    response = pb.PredictResponse()
    response.model_spec.name = model
    response.model_spec.version.value = version
    response.model_spec.signature_name = signature
    serialized: bytes = response.SerializeToString()
    return serialized


@lru_cache(maxsize=4096)
def _raw_prefix(alias: str, dtype: np.dtype[Any], shape: tuple[int, ...], content: bool) -> bytes | None:
    """The bytes of an entry before its values, where these are on the wire as in memory; else None."""
    size = int(np.prod(shape)) * dtype.itemsize
    kind = tensors.dtype_of(np.empty(0, dtype))
    is_raw = kind is not tensors.STRING and (content or kind.stored.kind not in "iu")
    if not is_raw or kind.numpy != dtype or not 0 < size <= tensors.MAX_BYTES:
        return None
    head, _ = tensors.serialize_parts(np.zeros(shape, dtype), content)
    return _entry_prefix(alias, head, size)


@lru_cache(maxsize=4096)
def _entry_prefix(alias: str, head: bytes, size: int) -> bytes:
    """The bytes of an `outputs` entry before `size` bytes of values; `head` is that of the TensorProto."""
    encoded = alias.encode()
    key = _OUTPUTS_TAG + varint(len(encoded)) + encoded
    entry = key + _VALUE_TAG + varint(len(head) + size) + head
    return _OUTPUTS_TAG + varint(len(entry) + size) + entry
