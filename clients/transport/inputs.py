"""What a caller gives to a signature, as arrays that fit it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ladle.clients.errors import InvalidArgument
from ladle.clients.transport.metadata import Signature, TensorInfo, describe, dtype_name
from ladle.clients.wire.arrays import Array


def checked(name: str, signature: Signature | None, inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays keep their dtype; lists, numbers, bytes and str get the signature's.

    InvalidArgument names the dtype and shape that came and those that are wanted, or the inputs that there are.
    """
    arrays = {}
    for key, value in inputs.items():
        what = f'{name}: input "{key}"'
        if signature is None:
            arrays[key] = as_array(value, None, what)
            continue
        info = signature.inputs.get(key)
        if info is None:
            known = ", ".join(f"{alias}: {declared}" for alias, declared in signature.inputs.items())
            raise InvalidArgument(f"{what} is not in the signature; it has {known or 'no inputs'}")
        array = as_array(value, info, what)
        if dtype_name(array) != info.dtype or not info.admits(array.shape):
            raise InvalidArgument(f"{what} is {describe(array)}; wanted {info}")
        arrays[key] = array
    return arrays


def as_array(value: Any, info: TensorInfo | None, what: str) -> Array:
    """A list, number, bytes or str as an array of the declared dtype; arrays keep their own."""
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    try:
        if info is None:
            return np.asarray(value)
        if info.dtype == "string":
            return np.array(value, object)
        array = np.asarray(value)
        if array.dtype.kind == "O":
            raise ValueError("its rows differ in length or are no numbers")
        if array.size and not np.can_cast(array.dtype, info.numpy, "same_kind"):
            raise InvalidArgument(f"{what} is {describe(array)}; wanted {info}")
        return array.astype(info.numpy)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidArgument(f"{what} is not a tensor ({error}); wanted {info}") from None
