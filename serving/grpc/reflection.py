"""gRPC server reflection: the services and their descriptors, for tools such as grpcurl."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError

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

    from ladle.serving.grpc.described import describe

    pool = describe([name for name in names if name not in NAMES], reflection_pb2.DESCRIPTOR)
    return reflection_pb2.ServerReflectionRequest, reflection.aio.ReflectionServicer(names, pool=pool)
