"""REST bodies to arrays and back, in the columnar form: `{"inputs": ...}` asked, `{"outputs": ...}` answered.

The columnar form carries any shapes; the row form would ask for a common batch axis. Text that is not UTF-8, such
as a PNG under a name that does not end in `_bytes`, survives: undecodable bytes become surrogates and bytes again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array


def encode_request(inputs: Mapping[str, Array], signature: str) -> bytes:
    """A predict request. Strings go as b64; NaN and infinities as the tokens that the server reads.

    ValueError for dtypes that JSON has no form for. JSON keeps no dtype, and of an empty array no axis after
    the empty one.
    """
    values = {name: _to_json(array) for name, array in inputs.items()}
    return json.dumps({"signature_name": signature, "inputs": values}, separators=(",", ":")).encode()


def _to_json(array: Array) -> Any:
    if array.dtype.kind in "OSU":
        return _each_leaf(array.tolist(), _b64)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"dtype {array.dtype} has no JSON form; send it over gRPC")
    return array.tolist()


def _b64(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes):
        raise ValueError(f"an object array holds {type(value).__name__}; wanted bytes or str")
    return {"b64": base64.b64encode(value).decode()}


def _each_leaf(value: Any, function: Any) -> Any:
    if isinstance(value, list):
        return [_each_leaf(item, function) for item in value]
    return function(value)


def decode(body: bytes) -> Any:
    """The JSON of an answer; ValueError when it is none."""
    return json.loads(body.decode("utf-8", "surrogateescape"))


def decode_outputs(answer: Any, dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, Array]:
    """Arrays by name, in the signature's output dtypes; ValueError when the answer does not fit them.

    A single output comes without its name.
    """
    if not isinstance(answer, dict) or "outputs" not in answer:
        raise ValueError('the answer has no "outputs"')
    outputs = answer["outputs"]
    if len(dtypes) == 1:
        outputs = {next(iter(dtypes)): outputs}
    if not isinstance(outputs, dict) or outputs.keys() != dtypes.keys():
        named = sorted(outputs) if isinstance(outputs, dict) else type(outputs).__name__
        raise ValueError(f"the outputs are {named}; wanted {sorted(dtypes)}")
    return {name: _from_json(outputs[name], dtype) for name, dtype in dtypes.items()}


def _from_json(value: Any, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "O":
        return np.array(_each_leaf(value, _to_bytes), object)
    try:
        return np.array(value, dtype)
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from None


def _to_bytes(value: Any) -> bytes:
    if isinstance(value, dict) and value.keys() == {"b64"}:
        return base64.b64decode(value["b64"])
    if not isinstance(value, str):
        raise ValueError(f"an output string is {json.dumps(value)[:40]}")
    return value.encode("utf-8", "surrogateescape")
