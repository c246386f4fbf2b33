"""gRPC server reflection: which services there are, and their descriptors, for grpcurl and its like."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from ladle.clients.wire import messages as pb

NAMES = ("grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection")
"""The two are alike but for their names."""


def is_installed() -> bool:
    return importlib.util.find_spec("grpc_reflection") is not None


class Reflection:
    """The method ServerReflectionInfo, from bytes to bytes. services: names to tell of."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = (*services, *NAMES)

    async def info(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Serialized ServerReflectionResponse, one for each ServerReflectionRequest."""
        kind, servicer = _load(self._services)

        async def read() -> AsyncIterator[Any]:
            async for payload in requests:
                try:
                    request = kind.FromString(payload)
                except DecodeError:
                    text = "the request is not a ServerReflectionRequest"
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
                yield request

        async for response in servicer.ServerReflectionInfo(read(), context):
            yield response.SerializeToString()


@functools.lru_cache(maxsize=1)
def _load(services: tuple[str, ...]) -> tuple[Any, Any]:
    from grpc_reflection.v1alpha import reflection, reflection_pb2  # type: ignore[import-untyped]

    return reflection_pb2.ServerReflectionRequest, reflection.aio.ReflectionServicer(services, pool=pb.POOL)
