"""The messages of ModelInfer in KServe's V2 protocol (gRPC), with only the fields that the benchmarks use."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from benchmarks.requests.models import Array

INFER = "/inference.GRPCInferenceService/ModelInfer"
DATATYPES = {"<f4": "FP32", "<i4": "INT32", "<i8": "INT64"}
NUMPY = {name: dtype for dtype, name in DATATYPES.items()}

_PACKAGE = "inference"
_FIELD = descriptor_pb2.FieldDescriptorProto
# For each message and field: number, type, whether repeated. Numbers are those of KServe's grpc_predict_v2.proto;
# "Tensor" stands for both its InferInputTensor and its InferOutputTensor, whose fields agree.
_MESSAGES: dict[str, dict[str, tuple[int, Any, bool]]] = {
    "Tensor": {
        "name": (1, _FIELD.TYPE_STRING, False),
        "datatype": (2, _FIELD.TYPE_STRING, False),
        "shape": (3, _FIELD.TYPE_INT64, True),
    },
    "ModelInferRequest": {
        "model_name": (1, _FIELD.TYPE_STRING, False),
        "inputs": (5, "Tensor", True),
        "raw_input_contents": (7, _FIELD.TYPE_BYTES, True),
    },
    "ModelInferResponse": {
        "model_name": (1, _FIELD.TYPE_STRING, False),
        "outputs": (5, "Tensor", True),
        "raw_output_contents": (6, _FIELD.TYPE_BYTES, True),
    },
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="v2.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


def request(model: str, alias: str, array: Array) -> bytes:
    """A serialized ModelInferRequest that carries the array as raw contents."""
    message = _classes()["ModelInferRequest"](model_name=model)
    message.inputs.add(name=alias, datatype=DATATYPES[array.dtype.str], shape=array.shape)
    message.raw_input_contents.append(array.tobytes())
    data: bytes = message.SerializeToString()
    return data


def arrays(content: bytes) -> list[Array]:
    """The outputs of a serialized ModelInferResponse that have raw contents and a type of `DATATYPES`."""
    message = _classes()["ModelInferResponse"].FromString(content)
    return [
        np.frombuffer(raw, NUMPY[tensor.datatype]).reshape(tuple(tensor.shape))
        for tensor, raw in zip(message.outputs, message.raw_output_contents, strict=False)
        if tensor.datatype in NUMPY
    ]
