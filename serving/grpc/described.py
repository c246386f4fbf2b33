"""The files that describe the services, as protobuf's descriptors: what server reflection answers.

A module of its own: few clients ask for reflection, and protobuf's descriptors would slow down the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services

_V1 = "grpc.reflection.v1"


def describe(names: Sequence[str], reflection_file: Any) -> Any:
    """A descriptor pool with these services and both versions of reflection.

    names            full names of services. Of `pb.POOL` Health is missing, of which clients need only the messages
    reflection_file  the descriptor of reflection v1alpha
    """
    files: dict[str, Any] = {}
    for name in names:
        methods = services.methods(name)
        for method in methods.values():
            _collect(method.request.DESCRIPTOR.file, files)
            _collect(method.response.DESCRIPTOR.file, files)
        try:
            _collect(pb.POOL.FindServiceByName(name).file, files)
        except KeyError:
            _add_service(files[next(iter(methods.values())).request.DESCRIPTOR.file.name], name, methods)
    alpha = descriptor_pb2.FileDescriptorProto.FromString(reflection_file.serialized_pb)
    files[alpha.name] = alpha
    # The file of v1 differs from that of v1alpha in its package alone.
    v1 = descriptor_pb2.FileDescriptorProto.FromString(alpha.SerializeToString())
    v1.name, v1.package = "grpc/reflection/v1/reflection.proto", _V1
    for message in v1.message_type:
        for field in message.field:
            if field.type_name:  # a message
                field.type_name = _to_v1(field.type_name)
    for method in v1.service[0].method:
        method.input_type, method.output_type = _to_v1(method.input_type), _to_v1(method.output_type)
    files[v1.name] = v1
    pool = descriptor_pool.DescriptorPool()
    for file in files.values():  # each after those that it imports
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def _collect(file: Any, files: dict[str, Any]) -> None:
    """Adds a file after the files that it imports."""
    if file.name in files:
        return
    for imported in file.dependencies:
        _collect(imported, files)
    files[file.name] = descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)


def _add_service(file: Any, full_name: str, methods: Mapping[str, services.Method]) -> None:
    service = file.service.add(name=full_name.rpartition(".")[2])
    for method in methods.values():
        service.method.add(
            name=method.name,
            input_type=f".{method.request.DESCRIPTOR.full_name}",
            output_type=f".{method.response.DESCRIPTOR.full_name}",
            server_streaming=method.streaming,
            client_streaming=method.client_streaming,
        )


def _to_v1(type_name: str) -> str:
    return type_name.replace(".v1alpha.", ".v1.")
