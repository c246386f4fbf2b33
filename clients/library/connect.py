"""From an address to the transport that speaks its protocol; the other protocol's library is not imported."""

from __future__ import annotations

from ladle.clients.errors import InvalidArgument
from ladle.clients.transport.access import Access
from ladle.clients.transport.address import Address, parse
from ladle.clients.transport.base import AsyncTransport, Transport
from ladle.clients.transport.protocol import MAX_MESSAGE_BYTES


def connect(target: str, access: Access | None = None, max_message_bytes: int = MAX_MESSAGE_BYTES) -> Transport:
    """The transport of an address; nothing is sent yet. InvalidArgument: no address, or unusable files for TLS."""
    address, access = _checked(target, access)
    if address.is_rest:
        from ladle.clients.transport.rest import RestClient

        return RestClient(address, access, max_message_bytes)
    from ladle.clients.transport.grpc import GrpcClient

    return GrpcClient(address, access, max_message_bytes)


def connect_async(
    target: str, access: Access | None = None, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> AsyncTransport:
    """As `connect`, for an event loop."""
    address, access = _checked(target, access)
    if address.is_rest:
        from ladle.clients.transport.rest_async import AsyncRestClient

        return AsyncRestClient(address, access, max_message_bytes)
    from ladle.clients.transport.grpc import AsyncGrpcClient

    return AsyncGrpcClient(address, access, max_message_bytes)


def _checked(target: str, access: Access | None) -> tuple[Address, Access]:
    address, access = parse(target), access or Access()
    if access.has_tls and not address.is_secure:
        raise InvalidArgument(f"{address} is not over TLS, but a CA or a certificate was given; wanted grpcs or https")
    return address, access
