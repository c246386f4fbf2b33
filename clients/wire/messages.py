"""Protocol messages of TensorFlow Serving, TensorFlow, gRPC health and the Open Inference Protocol, without TensorFlow.

The classes come from descriptors.binpb and live in a descriptor pool of their own, so TensorFlow can be imported in the
same process. They are not TensorFlow's classes: to convert, serialize with one and parse with the other.

    from ladle.clients.wire import messages as pb
    pb.PredictRequest()
    pb.get("tensorflow.serving.LogMetadata")     # any message, by full name
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf.internal import enum_type_wrapper

from ladle.clients.wire.descriptors import message_class, new_pool
from ladle.clients.wire.varints import read_varint

POOL = new_pool()
"""Pass it to `text_format.Parse(..., descriptor_pool=POOL)` for files that hold an `Any`."""


def _fill_pool() -> None:
    # A FileDescriptorSet is a sequence of files, each a tag (one byte, 0x0a), a length and that many bytes. Reading it
    # by hand saves importing descriptor_pb2, which takes longer than the rest of this module.
    data = Path(__file__).with_name("descriptors.binpb").read_bytes()
    at = 0
    while at < len(data):
        length, start = read_varint(data, at + 1)
        at = start + length
        POOL.AddSerializedFile(data[start:at])


_fill_pool()


def get(full_name: str) -> Any:
    """The message class with a full protobuf name. KeyError: there is none."""
    return message_class(POOL.FindMessageTypeByName(full_name))


def enum(full_name: str) -> Any:
    """The enum with a full protobuf name; it has `Name(number)` and `Value(name)`."""
    return enum_type_wrapper.EnumTypeWrapper(POOL.FindEnumTypeByName(full_name))


# Prediction
PredictRequest = get("tensorflow.serving.PredictRequest")
PredictResponse = get("tensorflow.serving.PredictResponse")
ClassificationRequest = get("tensorflow.serving.ClassificationRequest")
ClassificationResponse = get("tensorflow.serving.ClassificationResponse")
RegressionRequest = get("tensorflow.serving.RegressionRequest")
RegressionResponse = get("tensorflow.serving.RegressionResponse")
MultiInferenceRequest = get("tensorflow.serving.MultiInferenceRequest")
MultiInferenceResponse = get("tensorflow.serving.MultiInferenceResponse")
GetModelMetadataRequest = get("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = get("tensorflow.serving.GetModelMetadataResponse")
ModelSpec = get("tensorflow.serving.ModelSpec")
SignatureDefMap = get("tensorflow.serving.SignatureDefMap")
Input = get("tensorflow.serving.Input")

# Status and management
GetModelStatusRequest = get("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = get("tensorflow.serving.GetModelStatusResponse")
ModelVersionStatus = get("tensorflow.serving.ModelVersionStatus")
StatusProto = get("tensorflow.serving.StatusProto")
ReloadConfigRequest = get("tensorflow.serving.ReloadConfigRequest")
ReloadConfigResponse = get("tensorflow.serving.ReloadConfigResponse")
HealthCheckRequest = get("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = get("grpc.health.v1.HealthCheckResponse")
HealthListRequest = get("grpc.health.v1.HealthListRequest")
HealthListResponse = get("grpc.health.v1.HealthListResponse")
"""Its `statuses` is a map in the .proto file. On the wire a map is a repeated message of key and value."""

# The Open Inference Protocol
ServerLiveRequest = get("inference.ServerLiveRequest")
ServerLiveResponse = get("inference.ServerLiveResponse")
ServerReadyRequest = get("inference.ServerReadyRequest")
ServerReadyResponse = get("inference.ServerReadyResponse")
ModelReadyRequest = get("inference.ModelReadyRequest")
ModelReadyResponse = get("inference.ModelReadyResponse")
ServerMetadataRequest = get("inference.ServerMetadataRequest")
ServerMetadataResponse = get("inference.ServerMetadataResponse")
ModelMetadataRequest = get("inference.ModelMetadataRequest")
ModelMetadataResponse = get("inference.ModelMetadataResponse")
ModelInferRequest = get("inference.ModelInferRequest")
ModelInferResponse = get("inference.ModelInferResponse")
ModelStreamInferResponse = get("inference.ModelStreamInferResponse")
ModelConfigRequest = get("inference.ModelConfigRequest")
ModelConfigResponse = get("inference.ModelConfigResponse")
ModelStatisticsRequest = get("inference.ModelStatisticsRequest")
ModelStatisticsResponse = get("inference.ModelStatisticsResponse")
RepositoryIndexRequest = get("inference.RepositoryIndexRequest")
RepositoryIndexResponse = get("inference.RepositoryIndexResponse")
RepositoryModelLoadRequest = get("inference.RepositoryModelLoadRequest")
RepositoryModelLoadResponse = get("inference.RepositoryModelLoadResponse")
RepositoryModelUnloadRequest = get("inference.RepositoryModelUnloadRequest")
RepositoryModelUnloadResponse = get("inference.RepositoryModelUnloadResponse")

# Configuration files
ModelServerConfig = get("tensorflow.serving.ModelServerConfig")
ModelConfig = get("tensorflow.serving.ModelConfig")
BatchingParameters = get("tensorflow.serving.BatchingParameters")
MonitoringConfig = get("tensorflow.serving.MonitoringConfig")
SSLConfig = get("tensorflow.serving.SSLConfig")
PlatformConfigMap = get("tensorflow.serving.PlatformConfigMap")

# Profiles
ProfileRequest = get("tensorflow.ProfileRequest")
ProfileResponse = get("tensorflow.ProfileResponse")
TerminateRequest = get("tensorflow.TerminateRequest")
TerminateResponse = get("tensorflow.TerminateResponse")
MonitorRequest = get("tensorflow.MonitorRequest")
MonitorResponse = get("tensorflow.MonitorResponse")

# Logs and warm-up
PredictionLog = get("tensorflow.serving.PredictionLog")

# TensorFlow
TensorProto = get("tensorflow.TensorProto")
TensorShapeProto = get("tensorflow.TensorShapeProto")
TensorInfo = get("tensorflow.TensorInfo")
SignatureDef = get("tensorflow.SignatureDef")
SavedModel = get("tensorflow.SavedModel")
MetaGraphDef = get("tensorflow.MetaGraphDef")
Example = get("tensorflow.Example")

DataType = enum("tensorflow.DataType")
ErrorCode = enum("tensorflow.error.Code")
State = enum("tensorflow.serving.ModelVersionStatus.State")
ServingStatus = enum("grpc.health.v1.HealthCheckResponse.ServingStatus")
