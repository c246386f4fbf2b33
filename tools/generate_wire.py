"""Writes descriptors.binpb, the wire protocol as one serialized FileDescriptorSet.

Run it where `tensorflow-serving-api` is installed, and commit the result:

    python -m tools.generate_wire

That package lacks a few files of the server. `EXTRA` spells them out, with the names and numbers that TensorFlow
Serving and gRPC publish.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

PATH = Path(__file__).resolve().parents[1] / "clients" / "wire" / "descriptors.binpb"

PACKAGES = ("tensorflow_serving.apis", "tensorflow_serving.config")
MODULES = (
    "tensorflow.core.protobuf.saved_model_pb2",
    "tensorflow.core.example.example_pb2",
    "tensorflow.tsl.profiler.protobuf.xplane_pb2",
)

_SESSION = "tensorflow/core/protobuf/config.proto"
_WRAPPERS = "google/protobuf/wrappers.proto"

EXTRA = {
    "tensorflow_serving/config/monitoring_config.proto": """
        package tensorflow.serving
        message PrometheusConfig { bool enable = 1; string path = 2; }
        message MonitoringConfig { PrometheusConfig prometheus_config = 1; }
    """,
    "tensorflow_serving/config/ssl_config.proto": """
        package tensorflow.serving
        message SSLConfig {
          string server_key = 1; string server_cert = 2; string custom_ca = 3; bool client_verify = 4;
        }
    """,
    "tensorflow_serving/servables/tensorflow/session_bundle_config.proto": f"""
        package tensorflow.serving
        import {_WRAPPERS}
        import {_SESSION}
        message BatchingParameters {{
          google.protobuf.Int64Value max_batch_size = 1;
          google.protobuf.Int64Value batch_timeout_micros = 2;
          google.protobuf.Int64Value max_enqueued_batches = 3;
          google.protobuf.Int64Value num_batch_threads = 4;
          google.protobuf.StringValue thread_pool_name = 5;
          repeated int64 allowed_batch_sizes = 6;
          bool pad_variable_length_inputs = 7;
          google.protobuf.BoolValue enable_large_batch_splitting = 8;
          google.protobuf.Int64Value max_execution_batch_size = 9;
        }}
        message SessionBundleConfig {{
          string session_target = 1;
          tensorflow.ConfigProto session_config = 2;
          BatchingParameters batching_parameters = 3;
          google.protobuf.Int32Value session_run_load_threadpool_index = 4;
        }}
    """,
    "tensorflow_serving/servables/tensorflow/saved_model_bundle_source_adapter.proto": """
        package tensorflow.serving
        import tensorflow_serving/servables/tensorflow/session_bundle_config.proto
        message SavedModelBundleSourceAdapterConfig { tensorflow.serving.SessionBundleConfig legacy_config = 1000; }
    """,
    # Without the options and tools of a capture, which this server does not read.
    "tensorflow/profiler_service.proto": """
        package tensorflow
        message ProfileRequest {
          uint64 duration_ms = 1; uint64 max_events = 2; repeated string tools = 3; string repository_root = 5;
          string session_id = 6; string host_name = 7;
        }
        message ProfileToolData { string name = 1; bytes data = 2; }
        message ProfileResponse { repeated ProfileToolData tool_data = 6; bool empty_trace = 7; }
        message TerminateRequest { string session_id = 1; }
        message TerminateResponse { }
        message MonitorRequest { uint64 duration_ms = 1; int32 monitoring_level = 2; bool timestamp = 3; }
        message MonitorResponse { string data = 1; }
    """,
    "grpc/health/v1/health.proto": """
        package grpc.health.v1
        message HealthCheckRequest { string service = 1; }
        message HealthCheckResponse { HealthCheckResponse.ServingStatus status = 1; }
        enum HealthCheckResponse.ServingStatus {
          UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3;
        }
        message HealthListRequest { }
        message HealthListEntry { string key = 1; HealthCheckResponse value = 2; }
        message HealthListResponse { repeated HealthListEntry statuses = 1; }
    """,
    # The Open Inference Protocol (KServe's V2), with the parts of a model's configuration that clients read.
    "inference/open_inference.proto": """
        package inference
        message ServerLiveRequest { }
        message ServerLiveResponse { bool live = 1; }
        message ServerReadyRequest { }
        message ServerReadyResponse { bool ready = 1; }
        message ModelReadyRequest { string name = 1; string version = 2; }
        message ModelReadyResponse { bool ready = 1; }
        message ServerMetadataRequest { }
        message ServerMetadataResponse { string name = 1; string version = 2; repeated string extensions = 3; }
        message ModelMetadataRequest { string name = 1; string version = 2; }
        message ModelMetadataResponse {
          string name = 1; repeated string versions = 2; string platform = 3;
          repeated ModelMetadataResponse.TensorMetadata inputs = 4;
          repeated ModelMetadataResponse.TensorMetadata outputs = 5;
        }
        message ModelMetadataResponse.TensorMetadata { string name = 1; string datatype = 2; repeated int64 shape = 3; }
        message InferParameter {
          parameter_choice: bool bool_param = 1; parameter_choice: int64 int64_param = 2;
          parameter_choice: string string_param = 3; parameter_choice: double double_param = 4;
          parameter_choice: uint64 uint64_param = 5;
        }
        message InferTensorContents {
          repeated bool bool_contents = 1; repeated int32 int_contents = 2; repeated int64 int64_contents = 3;
          repeated uint32 uint_contents = 4; repeated uint64 uint64_contents = 5; repeated float fp32_contents = 6;
          repeated double fp64_contents = 7; repeated bytes bytes_contents = 8;
        }
        message ModelInferRequest {
          string model_name = 1; string model_version = 2; string id = 3;
          map InferParameter parameters = 4;
          repeated ModelInferRequest.InferInputTensor inputs = 5;
          repeated ModelInferRequest.InferRequestedOutputTensor outputs = 6;
          repeated bytes raw_input_contents = 7;
        }
        message ModelInferRequest.InferInputTensor {
          string name = 1; string datatype = 2; repeated int64 shape = 3;
          map InferParameter parameters = 4;
          InferTensorContents contents = 5;
        }
        message ModelInferRequest.InferRequestedOutputTensor { string name = 1; map InferParameter parameters = 2; }
        message ModelInferResponse {
          string model_name = 1; string model_version = 2; string id = 3;
          map InferParameter parameters = 4;
          repeated ModelInferResponse.InferOutputTensor outputs = 5;
          repeated bytes raw_output_contents = 6;
        }
        message ModelInferResponse.InferOutputTensor {
          string name = 1; string datatype = 2; repeated int64 shape = 3;
          map InferParameter parameters = 4;
          InferTensorContents contents = 5;
        }
        message ModelStreamInferResponse { string error_message = 1; ModelInferResponse infer_response = 2; }
        message ModelConfigRequest { string name = 1; string version = 2; }
        message ModelConfigResponse { ModelConfig config = 1; }
        message ModelConfig {
          string name = 1; string platform = 2; int32 max_batch_size = 4;
          repeated ModelInput input = 5; repeated ModelOutput output = 6;
          map ModelParameter parameters = 14; string backend = 17;
        }
        message ModelInput { string name = 1; DataType data_type = 2; repeated int64 dims = 4; bool optional = 8; }
        message ModelOutput { string name = 1; DataType data_type = 2; repeated int64 dims = 3; }
        message ModelParameter { string string_value = 1; }
        enum DataType {
          TYPE_INVALID = 0; TYPE_BOOL = 1; TYPE_UINT8 = 2; TYPE_UINT16 = 3; TYPE_UINT32 = 4; TYPE_UINT64 = 5;
          TYPE_INT8 = 6; TYPE_INT16 = 7; TYPE_INT32 = 8; TYPE_INT64 = 9; TYPE_FP16 = 10; TYPE_FP32 = 11;
          TYPE_FP64 = 12; TYPE_STRING = 13; TYPE_BF16 = 14;
        }
        message ModelStatisticsRequest { string name = 1; string version = 2; }
        message ModelStatisticsResponse { repeated ModelStatistics model_stats = 1; }
        message StatisticDuration { uint64 count = 1; uint64 ns = 2; }
        message InferStatistics {
          StatisticDuration success = 1; StatisticDuration fail = 2; StatisticDuration queue = 3;
          StatisticDuration compute_input = 4; StatisticDuration compute_infer = 5;
          StatisticDuration compute_output = 6; StatisticDuration cache_hit = 7; StatisticDuration cache_miss = 8;
        }
        message ModelStatistics {
          string name = 1; string version = 2; uint64 last_inference = 3; uint64 inference_count = 4;
          uint64 execution_count = 5; InferStatistics inference_stats = 6;
        }
        message RepositoryIndexRequest { string repository_name = 1; bool ready = 2; }
        message RepositoryIndexResponse { repeated RepositoryIndexResponse.ModelIndex models = 1; }
        message RepositoryIndexResponse.ModelIndex {
          string name = 1; string version = 2; string state = 3; string reason = 4;
        }
        message ModelRepositoryParameter {
          parameter_choice: bool bool_param = 1; parameter_choice: int64 int64_param = 2;
          parameter_choice: string string_param = 3; parameter_choice: bytes bytes_param = 4;
        }
        message RepositoryModelLoadRequest {
          string repository_name = 1; string model_name = 2; map ModelRepositoryParameter parameters = 3;
        }
        message RepositoryModelLoadResponse { }
        message RepositoryModelUnloadRequest {
          string repository_name = 1; string model_name = 2; map ModelRepositoryParameter parameters = 3;
        }
        message RepositoryModelUnloadResponse { }
    """,
}


def main() -> None:
    files = describe()
    PATH.write_bytes(files.SerializeToString(deterministic=True))
    print(f"{PATH}: {len(files.file)} files, {PATH.stat().st_size} bytes")


def describe() -> descriptor_pb2.FileDescriptorSet:
    """The files of the installed package and of `EXTRA`, each after the files that it imports."""
    files: dict[str, Any] = {}

    def add(descriptor: Any) -> None:
        if descriptor.name in files:
            return
        for imported in descriptor.dependencies:
            add(imported)
        files[descriptor.name] = proto = descriptor_pb2.FileDescriptorProto()
        descriptor.CopyToProto(proto)

    modules = list(MODULES)
    for package in PACKAGES:
        folder = importlib.import_module(package).__path__
        modules += sorted(f"{package}.{found.name}" for found in pkgutil.iter_modules(folder))
    for name in modules:
        module = importlib.import_module(name)
        if hasattr(module, "DESCRIPTOR"):
            add(module.DESCRIPTOR)
    for name, text in EXTRA.items():
        files[name] = parse(name, text)
    return descriptor_pb2.FileDescriptorSet(file=files.values())


def parse(name: str, text: str) -> descriptor_pb2.FileDescriptorProto:
    """Parse the part of the .proto language that `EXTRA` uses.

    A nested message or enum is written `Message.Name`, after its message. `choice: type name = 1` is a field of the
    oneof `choice`; `map Type name = 1` is a map from strings.
    """
    file = descriptor_pb2.FileDescriptorProto(name=name, syntax="proto3")
    file.package = re.findall(r"package (\S+)", text)[0]
    file.dependency.extend(re.findall(r"import (\S+)", text))
    declared = re.findall(r"(message|enum) (\S+) \{(.*?)\}", text, re.DOTALL)
    known = {title: (kind, f".{file.package}.{title}") for kind, title, _ in declared}
    messages: dict[str, Any] = {}
    for kind, title, body in declared:
        parent, _, own = title.rpartition(".")
        if kind == "message":
            message = messages[parent].nested_type.add() if parent else file.message_type.add()
            message.name, messages[title] = own, message
            for choice, label, type_name, field, number in _FIELD.findall(body):
                _add_field(message, known, title, choice, label, type_name, field, int(number))
        else:
            enum = messages[parent].enum_type.add(name=own) if parent else file.enum_type.add(name=own)
            for value, number in re.findall(r"(\w+) = (\d+);", body):
                enum.value.add(name=value, number=int(number))
    return file


_FIELD = re.compile(r"(?:(\w+): )?(repeated |map )?(\S+) (\w+) = (\d+);")
_SCALARS = ("bool", "string", "bytes", "int32", "int64", "uint32", "uint64", "float", "double")


def _add_field(
    message: Any,
    known: Mapping[str, tuple[str, str]],
    title: str,
    choice: str,
    label: str,
    type_name: str,
    name: str,
    number: int,
) -> None:
    """Add a field to the message `title`. known: kind (message or enum) and full name of the file's types, by title."""
    field = message.field.add(name=name, number=number)
    field.label = field.LABEL_REPEATED if label else field.LABEL_OPTIONAL
    if choice:
        if choice not in [oneof.name for oneof in message.oneof_decl]:
            message.oneof_decl.add(name=choice)
        field.oneof_index = len(message.oneof_decl) - 1
    if label == "map ":
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        for part, type_of_part, at in (("key", "string", 1), ("value", type_name, 2)):
            _add_field(entry, known, title, "", "", type_of_part, part, at)
        field.type, field.type_name = field.TYPE_MESSAGE, f"{known[title][1]}.{entry.name}"
    elif type_name in _SCALARS:
        field.type = getattr(field, f"TYPE_{type_name.upper()}")
    else:
        kind, field.type_name = known.get(type_name, ("message", f".{type_name}"))
        field.type = field.TYPE_ENUM if kind == "enum" else field.TYPE_MESSAGE


if __name__ == "__main__":
    main()
