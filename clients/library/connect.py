"""From an address to the transport that speaks its protocol; the other protocol's library is not imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from ladle.clients.errors import InvalidArgument
from ladle.clients.library.explained import explained
from ladle.clients.transport.access import Access
from ladle.clients.transport.address import Address, parse
from ladle.clients.transport.base import AsyncTransport, Transport
from ladle.clients.transport.operation import Operation
from ladle.clients.transport.protocol import MAX_MESSAGE_BYTES

T = TypeVar("T")
AnyTransport = TypeVar("AnyTransport", Transport, AsyncTransport)


class AddressedClient(Generic[AnyTransport]):
    """What both clients share: they show their address, and are pickled by it, without their connections."""

    transport: AnyTransport
    timeout_s: float
    _target: str | AnyTransport
    _proxy: str | None

    def __repr__(self) -> str:
        address = self._target if isinstance(self._target, str) else self.transport.address
        return f"{type(self).__name__}({address!r})"

    @staticmethod
    def _several(names: Sequence[str] | None, what: str) -> Sequence[str] | None:
        """InvalidArgument: one name came where a list is meant, and its letters would be taken for names."""
        if isinstance(names, str):
            raise InvalidArgument(f"got {what}={names!r}; expected a list of names: [{names!r}]")
        return names

    def _explained(self, name: str, operation: Operation[T]) -> Operation[T]:
        return explained(self.transport.protocol, name, operation)

    def __getstate__(self) -> dict[str, Any]:
        if not isinstance(self._target, str):
            raise TypeError("a client of a transport cannot be pickled; make it from an address")
        access = self.transport.protocol.access
        return {
            "target": self._target,
            "timeout_s": self.timeout_s,
            "ca": access.ca,
            "certificate": access.certificate,
            "private_key": access.private_key,
            "api_key": access.api_key,
            "max_message_bytes": self.transport.protocol.max_message_bytes,
            "proxy": self._proxy,
        }


def connect(
    target: str, access: Access | None = None, max_message_bytes: int = MAX_MESSAGE_BYTES, proxy: str | None = None
) -> Transport:
    """The transport for an address; nothing is sent yet.

    InvalidArgument: the address or the proxy cannot be parsed, or TLS files cannot be used.
    """
    address, access = _checked(target, access)
    if address.is_rest:
        from ladle.clients.transport.rest import RestTransport

        return RestTransport(address, access, max_message_bytes, proxy, _rest_protocol(address))
    from ladle.clients.transport.grpc import GrpcTransport

    return GrpcTransport(address, access, max_message_bytes, proxy, _grpc_protocol(address))


def connect_async(
    target: str, access: Access | None = None, max_message_bytes: int = MAX_MESSAGE_BYTES, proxy: str | None = None
) -> AsyncTransport:
    """The transport for an address, for an event loop; as `connect`."""
    address, access = _checked(target, access)
    if address.is_rest:
        from ladle.clients.transport.rest_async import AsyncRestTransport

        return AsyncRestTransport(address, access, max_message_bytes, proxy, _rest_protocol(address))
    from ladle.clients.transport.grpc import AsyncGrpcTransport

    return AsyncGrpcTransport(address, access, max_message_bytes, proxy, _grpc_protocol(address))


def _rest_protocol(address: Address) -> Any:
    if address.is_open_inference:
        from ladle.clients.transport.open_inference.rest import OpenInferenceRest

        return OpenInferenceRest
    from ladle.clients.transport.rest_protocol import RestProtocol

    return RestProtocol


def _grpc_protocol(address: Address) -> Any:
    if address.is_open_inference:
        from ladle.clients.transport.open_inference.grpc import OpenInferenceGrpc

        return OpenInferenceGrpc
    from ladle.clients.transport.grpc_protocol import GrpcProtocol

    return GrpcProtocol


def _checked(target: str, access: Access | None) -> tuple[Address, Access]:
    address, access = parse(target), access or Access()
    if access.has_tls and not address.is_secure:
        raise InvalidArgument(f"got a CA or a certificate with {address}, which has no TLS; use grpcs:// or https://")
    return address, access
