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
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

PATH = Path(__file__).resolve().parents[1] / "clients" / "wire" / "descriptors.binpb"

PACKAGES = ("tensorflow_serving.apis", "tensorflow_serving.config")
MODULES = ("tensorflow.core.protobuf.saved_model_pb2", "tensorflow.core.example.example_pb2")

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
        message SavedModelBundleSourceAdapterConfig { SessionBundleConfig legacy_config = 1000; }
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

    A nested enum is written `Message.Enum`, after its message.
    """
    file = descriptor_pb2.FileDescriptorProto(name=name, syntax="proto3")
    file.package = re.findall(r"package (\S+)", text)[0]
    file.dependency.extend(re.findall(r"import (\S+)", text))
    messages = {}
    for kind, title, body in re.findall(r"(message|enum) (\S+) \{(.*?)\}", text, re.DOTALL):
        if kind == "message":
            messages[title] = file.message_type.add(name=title)
            for label, type_name, field, number in re.findall(r"(repeated )?(\S+) (\w+) = (\d+);", body):
                _add_field(messages[title], file.package, label, type_name, field, int(number))
        else:
            parent, title = title.split(".")
            enum = messages[parent].enum_type.add(name=title)
            for value, number in re.findall(r"(\w+) = (\d+);", body):
                enum.value.add(name=value, number=int(number))
    return file


def _add_field(message: Any, package: str, label: str, type_name: str, name: str, number: int) -> None:
    field = message.field.add(name=name, number=number)
    field.label = field.LABEL_REPEATED if label else field.LABEL_OPTIONAL
    scalars = {"bool": field.TYPE_BOOL, "string": field.TYPE_STRING, "int64": field.TYPE_INT64}
    if type_name in scalars:
        field.type = scalars[type_name]
        return
    field.type = field.TYPE_ENUM if type_name.startswith(f"{message.name}.") else field.TYPE_MESSAGE
    known = type_name.startswith(("google.", "tensorflow."))
    field.type_name = f".{type_name}" if known else f".{package}.{type_name}"


if __name__ == "__main__":
    main()
