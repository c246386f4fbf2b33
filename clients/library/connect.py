"""From an address to the transport that speaks its protocol; the other protocol's library is not imported."""

from __future__ import annotations

from ladle.clients.errors import InvalidArgument
from ladle.clients.transport.access import Access
from ladle.clients.transport.address import Address, parse
from ladle.clients.transport.base import AsyncTransport, Transport
from ladle.clients.transport.protocol import MAX_MESSAGE_BYTES


def connect(target: str, access: Access | None = None, max_message_bytes: int = MAX_MESSAGE_BYTES) -> Transport:
    """The transport for an address; nothing is sent yet.

    InvalidArgument: the address cannot be parsed, or TLS files cannot be used.
    """
    address, access = _checked(target, access)
    if address.is_rest:
        from ladle.clients.transport.rest import RestTransport

        return RestTransport(address, access, max_message_bytes)
    from ladle.clients.transport.grpc import GrpcTransport

    return GrpcTransport(address, access, max_message_bytes)


def connect_async(
    target: str, access: Access | None = None, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> AsyncTransport:
    """The transport for an address, for an event loop; as `connect`."""
    address, access = _checked(target, access)
    if address.is_rest:
        from ladle.clients.transport.rest_async import AsyncRestTransport

        return AsyncRestTransport(address, access, max_message_bytes)
    from ladle.clients.transport.grpc import AsyncGrpcTransport

    return AsyncGrpcTransport(address, access, max_message_bytes)


def _checked(target: str, access: Access | None) -> tuple[Address, Access]:
    address, access = parse(target), access or Access()
    if access.has_tls and not address.is_secure:
        raise InvalidArgument(f"got a CA or a certificate with {address}, which has no TLS; use grpcs:// or https://")
    return address, access
