"""From an address to the transport that speaks its protocol; the other protocol's library is not imported."""

from __future__ import annotations

from clients.access import Access
from clients.address import Address, parse
from clients.errors import InvalidArgument
from clients.protocol import MAX_MESSAGE_BYTES
from clients.transport import AsyncTransport, Transport


def connect(target: str, access: Access | None = None, max_message_bytes: int = MAX_MESSAGE_BYTES) -> Transport:
    """The transport of an address; nothing is sent yet. InvalidArgument: no address, or unusable files for TLS."""
    address, access = _checked(target, access)
    if address.is_rest:
        from clients.rest_client import RestClient

        return RestClient(address, access, max_message_bytes)
    from clients.grpc_client import GrpcClient

    return GrpcClient(address, access, max_message_bytes)


def connect_async(
    target: str, access: Access | None = None, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> AsyncTransport:
    """As `connect`, for an event loop."""
    address, access = _checked(target, access)
    if address.is_rest:
        from clients.async_rest import AsyncRestClient

        return AsyncRestClient(address, access, max_message_bytes)
    from clients.grpc_client import AsyncGrpcClient

    return AsyncGrpcClient(address, access, max_message_bytes)


def _checked(target: str, access: Access | None) -> tuple[Address, Access]:
    address, access = parse(target), access or Access()
    if access.has_tls and not address.is_secure:
        raise InvalidArgument(f"{address} is not over TLS, but a CA or a certificate was given; wanted grpcs or https")
    return address, access
