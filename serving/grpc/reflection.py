"""gRPC server reflection: the services and their descriptors, for tools such as grpcurl."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import DecodeError

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services
from ladle.serving.grpc.calls import CallContext, StatusError

NAMES = ("grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection")
"""The same service under two names: clients ask for v1 first, older ones know v1alpha only."""


def is_installed() -> bool:
    return importlib.util.find_spec("grpc_reflection") is not None


class Reflection:
    """The method ServerReflectionInfo on serialized messages. services: the names that it lists."""

    def __init__(self, services: Sequence[str]) -> None:
        self._names = (*services, *NAMES)

    async def info(self, requests: AsyncIterator[bytes], context: CallContext) -> AsyncIterator[bytes]:
        """A serialized ServerReflectionResponse for each serialized ServerReflectionRequest."""
        kind, servicer = _load(self._names)

        async def read() -> AsyncIterator[Any]:
            async for payload in requests:
                try:
                    request = kind.FromString(payload)
                except DecodeError:
                    text = "the request is not a ServerReflectionRequest"
                    raise StatusError("INVALID_ARGUMENT", text) from None
                yield request

        async for response in servicer.ServerReflectionInfo(read(), context):
            yield response.SerializeToString()


@functools.lru_cache(maxsize=1)
def _load(names: tuple[str, ...]) -> tuple[Any, Any]:
    from grpc_reflection.v1alpha import reflection, reflection_pb2  # type: ignore[import-untyped]

    pool = _describe(names, reflection_pb2.DESCRIPTOR)
    return reflection_pb2.ServerReflectionRequest, reflection.aio.ReflectionServicer(names, pool=pool)


def _describe(names: tuple[str, ...], reflection_file: Any) -> Any:
    """A pool with every listed service. Ours lacks Health, whose messages clients need alone, and both reflections."""
    files: dict[str, Any] = {}
    for name in names:
        if name in NAMES:
            continue
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
    v1.name, v1.package = "grpc/reflection/v1/reflection.proto", "grpc.reflection.v1"
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
