"""Request bodies for each protocol, and the checks of the answers."""

from __future__ import annotations

import http.client
import io
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.requests import v2
from benchmarks.requests.load import ANY, JSON
from benchmarks.requests.models import Array
from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors

PREDICT = "/tensorflow.serving.PredictionService/Predict"


class WrongAnswerError(RuntimeError):
    """A server answered with an error, or without the graph's output."""


def rest_predict(array: Array) -> bytes:
    """TensorFlow Serving's row format, `{"instances": [...]}`, with the shortest exact form of each number."""
    return b'{"instances":' + _json_numbers(array).encode() + b"}"


def grpc_predict(model: str, alias: str, array: Array) -> bytes:
    """A serialized PredictRequest that carries the array as tensor_content."""
    request = pb.PredictRequest()
    request.model_spec.name = model
    tensors.fill(request.inputs[alias], array, True)
    data: bytes = request.SerializeToString()
    return data


def v2_json(alias: str, array: Array) -> bytes:
    """A JSON request of KServe's V2 protocol, with the numbers in one flat list."""
    # json.dumps would print a float32 as a float64 with more digits, so the numbers are put in afterwards.
    given = {"name": alias, "shape": list(array.shape), "datatype": v2.DATATYPES[array.dtype.str], "data": "@"}
    return json.dumps({"inputs": [given]}).replace('"@"', _json_numbers(array.ravel())).encode()


def v2_binary(alias: str, array: Array) -> tuple[bytes, int]:
    """A V2 request with the array as it is in memory, and the length of its JSON head. It asks for such an answer."""
    given: dict[str, Any] = {"name": alias, "shape": list(array.shape), "datatype": v2.DATATYPES[array.dtype.str]}
    given["parameters"] = {"binary_data_size": array.nbytes}
    head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
    return head + array.tobytes(), len(head)


def binary_header(head: int) -> tuple[str, str]:
    """The header that says how long the JSON head of a V2 request is."""
    return "Inference-Header-Content-Length", str(head)


def frame(message: bytes) -> bytes:
    """gRPC's frame of a message: a zero byte for "not compressed", the length as big-endian uint32, the bytes."""
    return b"\0" + struct.pack(">I", len(message)) + message


def _json_numbers(array: Array) -> str:
    if array.ndim:
        return f"[{','.join(map(_json_numbers, array))}]"
    return str(array)


def post(port: int, path: str, body: bytes, content_type: str = JSON, header: tuple[str, str] = ANY) -> bytes:
    """POST a body, with one more header, and return the answer's body.

    Raises WrongAnswerError if the status is not 200, OSError if no server answers.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body, {"content-type": content_type, header[0]: header[1]})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise WrongAnswerError(f"got HTTP {answer.status} from {path}; expected 200: {content[:200]!r}")
        return content
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


def call(port: int, path: str, message: bytes) -> bytes:
    """Make a unary gRPC call and return the answer.

    Raises WrongAnswerError if the call fails, OSError if no server answers.
    """
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer: bytes = channel.unary_unary(path)(message, timeout=30)
            return answer
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise ConnectionError(error.details()) from None
            raise WrongAnswerError(f"got {error.code().name} from {path}; expected OK: {error.details()}") from None


def check_json(content: bytes, expected: Array) -> None:
    """Raise WrongAnswerError unless a list of numbers in the JSON answer equals `expected` within 1e-4."""
    flat = expected.ravel()
    for values in _lists(json.loads(content)):
        try:
            found = np.asarray(values, np.float64).ravel()
        except (TypeError, ValueError):
            continue
        if found.size == flat.size and np.allclose(found, flat, atol=1e-4):
            return
    raise WrongAnswerError(f"got {content[:200]!r}; expected the graph's output within 1e-4")


def check_predict(content: bytes, expected: Array) -> None:
    """As `check_json`, for a serialized PredictResponse."""
    outputs = pb.PredictResponse.FromString(content).outputs
    _check_arrays([tensors.to_array(tensor) for tensor in outputs.values()], expected)


def check_v2(content: bytes, expected: Array) -> None:
    """As `check_json`, for a serialized ModelInferResponse."""
    _check_arrays(v2.arrays(content), expected)


def check_binary(content: bytes, expected: Array) -> None:
    """As `check_json`, for a V2 answer with binary tensors behind its JSON head."""
    try:
        head, _ = json.JSONDecoder().raw_decode(content.decode("latin-1"))
        sizes = [each.get("parameters", {}).get("binary_data_size", 0) for each in head["outputs"]]
        dtypes = [v2.NUMPY.get(each["datatype"]) for each in head["outputs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise WrongAnswerError(f"got {content[:200]!r}; expected a V2 answer with binary tensors") from error
    found, start = [], len(content) - sum(sizes)
    for dtype, size in zip(dtypes, sizes, strict=True):
        if dtype is not None:
            found.append(np.frombuffer(content[start : start + size], dtype))
        start += size
    _check_arrays(found, expected)


def _check_arrays(arrays: list[Array], expected: Array) -> None:
    for array in arrays:
        if (
            array.size == expected.size
            and array.dtype.kind == "f"
            and np.allclose(array.ravel(), expected.ravel(), atol=1e-4)
        ):
            return
    raise WrongAnswerError(f"got {len(arrays)} tensors; expected the graph's output within 1e-4 among them")


def _lists(value: Any) -> Iterator[list[Any]]:
    if isinstance(value, dict):
        for part in value.values():
            yield from _lists(part)
    elif isinstance(value, list):
        yield value
        for part in value:
            if isinstance(part, list | dict):
                yield from _lists(part)


def png(image: Array) -> bytes:
    """A grey image, float [h, w] in [0, 1], as the bytes of a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray((image * 255).round().astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
