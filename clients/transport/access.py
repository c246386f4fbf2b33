"""How a client may enter: TLS with a CA and a client certificate, a key, and headers of one's own."""

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
    """Files are PEM.

    ca           of the server's certificate; without it the system's CAs count
    certificate  of the client, with `private_key`, where the server wants one
    api_key      goes as `authorization: Bearer ...`; no repr tells it
    """

    ca: File | None = None
    certificate: File | None = None
    private_key: File | None = None
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise InvalidArgument("a client certificate needs its private key, and the key its certificate")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable() and self.api_key):
            raise InvalidArgument("the key is empty or holds characters that a header cannot carry")

    @property
    def has_tls(self) -> bool:
        """Whether something is set that only TLS uses."""
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

        self.ssl_context()  # gRPC says nothing of files that hold no certificate
        return grpc.ssl_channel_credentials(
            _read(self.ca) if self.ca is not None else None,
            _read(self.private_key) if self.private_key is not None else None,
            _read(self.certificate) if self.certificate is not None else None,
        )


@contextlib.contextmanager
def sending(headers: Mapping[str, str]) -> Iterator[None]:
    """Every request made inside, by any client in this thread or task, bears these headers as well.

    with sending({"x-request-id": "7f3a"}):
        client.classify("lenet5", "boot.png")

    InvalidArgument: a name or a value that a header cannot carry.
    """
    for name, value in headers.items():
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or not (value.isascii() and value.isprintable()):
            raise InvalidArgument(f"the header {name!r} holds characters that a header cannot carry")
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
        raise InvalidArgument(f"{os.fspath(file)} is not usable PEM: {error.reason or error}") from None
