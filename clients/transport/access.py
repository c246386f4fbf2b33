"""Credentials: TLS with a CA and a client certificate, an API key, and extra headers."""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ladle.clients.errors import InvalidArgument

if TYPE_CHECKING:
    import grpc

File = str | os.PathLike[str]
_HEADERS: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("ladle_headers", default=())


@dataclass(frozen=True)
class Access:
    """What a client shows to be let in. Files are PEM.

    ca           the CA that signed the server's certificate (default: the system's CAs)
    certificate  the client's certificate, with `private_key`, if the server requires one
    api_key      sent as `authorization: Bearer ...`; left out of the repr

    InvalidArgument: a certificate without its key, or an API key that no header can carry.
    """

    ca: File | None = None
    certificate: File | None = None
    private_key: File | None = None
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise InvalidArgument("got only one of certificate and private_key; give both")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable() and self.api_key):
            raise InvalidArgument(
                "got an api_key that is empty or holds more than printable ASCII; headers carry nothing else"
            )

    @property
    def has_tls(self) -> bool:
        """Whether a CA or a certificate is set, which only TLS uses."""
        return self.ca is not None or self.certificate is not None

    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers of a request that is sent now."""
        key = (("authorization", f"Bearer {self.api_key}"),) if self.api_key else ()
        return key + _HEADERS.get()

    def ssl_context(self) -> ssl.SSLContext:
        """For HTTPS. InvalidArgument names a file that cannot be read or holds no PEM."""
        context = ssl.create_default_context()
        if self.ca is not None:
            _read(self.ca)
            with _named(self.ca):
                context = ssl.create_default_context(cafile=os.fspath(self.ca))
        if self.certificate is not None and self.private_key is not None:
            _read(self.certificate), _read(self.private_key)
            with _named(self.certificate):
                context.load_cert_chain(os.fspath(self.certificate), os.fspath(self.private_key))
        return context

    def grpc_credentials(self) -> grpc.ChannelCredentials:
        """For gRPC over TLS. InvalidArgument names a file that cannot be read or holds no PEM."""
        import grpc

        self.ssl_context()  # gRPC accepts files without certificates and fails later, without a reason
        return grpc.ssl_channel_credentials(
            _read(self.ca) if self.ca is not None else None,
            _read(self.private_key) if self.private_key is not None else None,
            _read(self.certificate) if self.certificate is not None else None,
        )


@contextlib.contextmanager
def sending(headers: Mapping[str, str]) -> Iterator[None]:
    """Add headers to every request made inside, by any client, in this thread or asyncio task.

    with sending({"x-request-id": "7f3a"}):
        client.classify("lenet5", "boot.png")

    InvalidArgument: a name or a value that a header cannot carry.
    """
    for name, value in headers.items():
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or not (value.isascii() and value.isprintable()):
            raise InvalidArgument(
                f"got characters in the header {name!r} that a header cannot carry; use printable ASCII"
            )
    token = _HEADERS.set(_HEADERS.get() + tuple((name.lower(), value) for name, value in headers.items()))
    try:
        yield
    finally:
        _HEADERS.reset(token)


def _read(file: File) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"cannot read {os.fspath(file)}: {error.strerror}") from None


@contextlib.contextmanager
def _named(file: File) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        raise InvalidArgument(f"got {os.fspath(file)}, which is not usable PEM: {error.reason or error}") from None
