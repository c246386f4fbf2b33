"""The verb of every model, :predict: any signature, tensors in and out as JSON."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

from ladle.clients.library.tasks import Json
from ladle.clients.transport.metadata import dtype_name
from ladle.clients.web.backend import PREDICT, ModelRequest
from ladle.clients.web.http.problems import Problem
from ladle.clients.web.http.routes import Body, ParsedRequest, Route
from ladle.clients.web.http.schema import Schema, array, integer, obj, string
from ladle.clients.web.verbs.base import VERSION, Verb
from ladle.clients.wire.arrays import Array

DEFAULT = "serving_default"
SIGNATURE = string("name of the signature (default: serving_default)", maxLength=1000)
INPUTS: Schema = {
    "type": "object",
    "description": 'each input by name: a number, a text, or nested lists; bytes as {"b64": base64}',
    "minProperties": 1,
}
TENSOR = obj({"dtype": string(), "shape": array(integer(0))})


class TensorVerbs(Verb):
    """Tensors in, tensors out."""

    def routes(self) -> list[Route]:
        any_by_name: Schema = {"type": "object"}
        return [
            self.route(
                PREDICT,
                "All outputs of any signature",
                self.predict,
                {"signature": string(), "outputs": any_by_name, "tensors": any_by_name},
                {},
                Body(
                    obj({"signature": SIGNATURE, "inputs": INPUTS, "version": VERSION}, ("inputs",)),
                    example={"signature": "serving_default", "inputs": {"x": [[1.0]]}},
                ),
                about="`inputs` have the names, types and shapes of the signature, as GET /api/v1/models/{name} tells. "
                '`outputs` are numbers and texts in nested lists, bytes as {"b64": base64}, NaN and infinity as '
                "null. `tensors` tells the dtype and shape of each output.",
            )
        ]

    def predict(self, request: ParsedRequest, name: str) -> Json:
        asked = ModelRequest(self.backend, name, PREDICT, request.options.get("version"))
        signature = request.json.get("signature", DEFAULT)
        inputs = {key: _value(value, key) for key, value in request.json["inputs"].items()}
        answer = asked.call(lambda model, options: asked.client.predict(name, inputs, signature, **options))
        found = {key: np.asarray(answer[key]) for key in sorted(answer)}  # servers answer in any order
        return asked.result(
            signature=signature,
            outputs={key: _json(array, key) for key, array in found.items()},
            tensors={key: {"dtype": dtype_name(array), "shape": list(array.shape)} for key, array in found.items()},
        )


def _value(value: Any, name: str) -> Any:
    """A value of JSON with its bytes decoded. Problem 400: an object that is not {"b64": base64}, or null."""
    if isinstance(value, list):
        return [_value(item, name) for item in value]
    if value is None:
        raise Problem(400, f"inputs.{name}: got null; expected a number, a text, or lists of them.")
    if not isinstance(value, dict):
        return value
    if set(value) != {"b64"} or not isinstance(value["b64"], str):
        raise Problem(400, f'inputs.{name}: got an object; expected {{"b64": base64}}, a number, a text, or lists.')
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise Problem(400, f"inputs.{name}: got text that is not base64; expected bytes in base64.") from None


def _json(array: Array, name: str) -> Any:
    """Nested lists. Texts stay texts; bytes that are no UTF-8, and those of outputs named `…_bytes`, become base64."""
    if array.dtype.kind not in "OS":
        return array.astype(np.float32).tolist() if dtype_name(array) == "bfloat16" else array.tolist()

    def item(value: Any) -> Any:
        if isinstance(value, list):
            return [item(each) for each in value]
        data = value.encode() if isinstance(value, str) else bytes(value)
        if not name.endswith("_bytes"):
            try:
                return data.decode()
            except UnicodeDecodeError:
                pass
        return {"b64": base64.b64encode(data).decode()}

    return item(array.tolist())
