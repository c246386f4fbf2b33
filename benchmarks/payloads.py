"""Request bodies for each protocol, and what a right answer to them is."""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import v2
from benchmarks.models import Array
from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors

PREDICT = "/tensorflow.serving.PredictionService/Predict"


class WrongAnswerError(RuntimeError):
    """A server answered something else than the graph's outputs."""


def rest_predict(array: Array) -> bytes:
    """TensorFlow Serving's row format, numbers with their shortest digits: `{"instances": [...]}`."""
    return b'{"instances":' + _digits(array).encode() + b"}"


def grpc_predict(model: str, alias: str, array: Array) -> bytes:
    """A serialized PredictRequest with tensor_content."""
    request = pb.PredictRequest()
    request.model_spec.name = model
    tensors.fill(request.inputs[alias], array, True)
    data: bytes = request.SerializeToString()
    return data


def v2_json(alias: str, array: Array) -> bytes:
    """A request of KServe's V2 protocol over HTTP, numbers in one flat list."""
    given = {"name": alias, "shape": list(array.shape), "datatype": v2.DATATYPES[array.dtype.str], "data": "@"}
    return json.dumps({"inputs": [given]}).replace('"@"', _digits(array.ravel())).encode()


def frame(message: bytes) -> bytes:
    """The message as gRPC puts it on the wire: not compressed, length, bytes."""
    return b"\0" + struct.pack(">I", len(message)) + message


def _digits(array: Array) -> str:
    if array.ndim:
        return f"[{','.join(map(_digits, array))}]"
    return str(array)


def post(port: int, path: str, body: bytes) -> bytes:
    """The body of a 200 answer; WrongAnswerError for another status, OSError when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise WrongAnswerError(f"{path} answered {answer.status}: {content[:200]!r}")
        return content
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


def call(port: int, path: str, message: bytes) -> bytes:
    """The message that a unary gRPC call answers; WrongAnswerError for an error, OSError when nobody answers."""
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer: bytes = channel.unary_unary(path)(message, timeout=30)
            return answer
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise ConnectionError(error.details()) from None
            raise WrongAnswerError(f"{path} answered {error.code().name}: {error.details()}") from None


def check_json(content: bytes, wanted: Array) -> None:
    """Whether some list of numbers in a JSON answer is the wanted output, within 1e-4; WrongAnswerError if not."""
    flat = wanted.ravel()
    for values in _lists(json.loads(content)):
        try:
            found = np.asarray(values, np.float64).ravel()
        except (TypeError, ValueError):
            continue
        if found.size == flat.size and np.allclose(found, flat, atol=1e-4):
            return
    raise WrongAnswerError(f"an answer without the graph's output: {content[:200]!r}")


def check_predict(content: bytes, wanted: Array) -> None:
    """The same for a serialized PredictResponse."""
    outputs = pb.PredictResponse.FromString(content).outputs
    _check_arrays([tensors.to_array(tensor) for tensor in outputs.values()], wanted)


def check_v2(content: bytes, wanted: Array) -> None:
    """The same for a serialized ModelInferResponse."""
    _check_arrays(v2.arrays(content), wanted)


def _check_arrays(arrays: list[Array], wanted: Array) -> None:
    for array in arrays:
        if (
            array.size == wanted.size
            and array.dtype.kind == "f"
            and np.allclose(array.ravel(), wanted.ravel(), atol=1e-4)
        ):
            return
    raise WrongAnswerError(f"an answer without the graph's output among {len(arrays)} tensors")


def _lists(value: Any) -> Iterator[list[Any]]:
    if isinstance(value, dict):
        for part in value.values():
            yield from _lists(part)
    elif isinstance(value, list):
        yield value
        for part in value:
            if isinstance(part, list | dict):
                yield from _lists(part)
