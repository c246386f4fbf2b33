"""Arrays to REST bodies and back, in the columnar format: `{"inputs": ...}` in requests, `{"outputs": ...}` in answers.

The columnar format carries any shapes; the row format requires a common batch axis. TensorFlow Serving writes raw bytes
into JSON when an output's name does not end in `_bytes`. They survive: bytes that are not UTF-8 are decoded as
surrogates and encoded back.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array


def encode_request(inputs: Mapping[str, Array], signature: str) -> bytes:
    """A predict request. Strings are sent as b64, NaN and infinities as the tokens NaN, Infinity and -Infinity.

    JSON keeps no dtypes, and no axes after an empty one. ValueError: JSON cannot carry a dtype.
    """
    values = {}
    for name, array in inputs.items():
        try:
            values[name] = _to_json(array)
        except ValueError as error:
            raise ValueError(f'input "{name}": {error}') from None
    return json.dumps({"signature_name": signature, "inputs": values}, separators=(",", ":")).encode()


def _to_json(array: Array) -> Any:
    if array.dtype.kind in "OSU":
        return _each_leaf(array.tolist(), _b64)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"got dtype {array.dtype}, which JSON cannot carry; send it over gRPC")
    return array.tolist()


def _b64(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes):
        raise ValueError(f"got {type(value).__name__} in an object array; expected bytes or str")
    return {"b64": base64.b64encode(value).decode()}


def _each_leaf(value: Any, function: Any) -> Any:
    if isinstance(value, list):
        return [_each_leaf(item, function) for item in value]
    return function(value)


def decode(body: bytes) -> Any:
    """The JSON of an answer. ValueError: it is not JSON."""
    return json.loads(body.decode("utf-8", "surrogateescape"))


def decode_outputs(answer: Any, dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, Array]:
    """The outputs of an answer as arrays of the signature's dtypes. ValueError: the answer does not fit them.

    TensorFlow Serving sends a single output without its name.
    """
    if not isinstance(answer, dict) or "outputs" not in answer:
        raise ValueError('the answer has no "outputs"')
    outputs = answer["outputs"]
    if len(dtypes) == 1:
        outputs = {next(iter(dtypes)): outputs}
    if not isinstance(outputs, dict) or outputs.keys() != dtypes.keys():
        named = sorted(outputs) if isinstance(outputs, dict) else type(outputs).__name__
        raise ValueError(f"got the outputs {named}; expected {sorted(dtypes)}")
    return {name: _from_json(outputs[name], dtype) for name, dtype in dtypes.items()}


def _from_json(value: Any, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "O":
        return np.array(_each_leaf(value, decode_string), object)
    try:
        return np.array(value, dtype)
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from None


def decode_string(value: Any) -> bytes:
    """A string of an answer, written as text or as b64. ValueError: it is none."""
    if isinstance(value, dict) and value.keys() == {"b64"}:
        return base64.b64decode(value["b64"])
    if not isinstance(value, str):
        raise ValueError(f"got {json.dumps(value)[:40]}; expected a string")
    return value.encode("utf-8", "surrogateescape")
