"""Where a model server is: `grpc://host:port`, `grpcs://`, `http://`, `https://`, several gRPC hosts with commas."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ladle.clients.errors import InvalidArgument

PORTS = {"grpc": 8500, "grpcs": 8500, "http": 8501, "https": 8501}
"""The port of each scheme where none is named: TensorFlow Serving's own."""


@dataclass(frozen=True)
class Address:
    """One server, or several that serve the same over gRPC. `hosts`: `host:port` each, or `unix:/path`."""

    scheme: str
    hosts: tuple[str, ...]
    path: str = ""

    @property
    def is_rest(self) -> bool:
        return self.scheme.startswith("http")

    @property
    def is_secure(self) -> bool:
        return self.scheme.endswith("s")

    def __str__(self) -> str:
        return f"{self.scheme}://{','.join(self.hosts)}{self.path}"


def parse(text: str) -> Address:
    """InvalidArgument: not an address, or several hosts over REST."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in PORTS:
        raise _refused(text)
    places, slash, path = rest.partition("/")
    if scheme.startswith("grpc") and rest.startswith("unix:"):
        return Address(scheme, (rest,))
    if (scheme.startswith("grpc") and path) or not path.isascii() or not rest.isprintable() or set(rest) & set(" ?#"):
        raise _refused(text)
    hosts = tuple(_host(scheme, place, text) for place in places.split(","))
    if scheme.startswith("http") and len(hosts) > 1:
        raise InvalidArgument(f'"{text}" names {len(hosts)} hosts; several are for gRPC: grpc://a:8500,b:8500')
    return Address(scheme, hosts, (slash + path).rstrip("/"))


def _host(scheme: str, place: str, text: str) -> str:
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _refused(text) from None
    if not host or parts.username is not None or re.search(r"[\s/]", place):
        raise _refused(text)
    return f"{f'[{host}]' if ':' in host else host}:{port or PORTS[scheme]}"


def _refused(text: str) -> InvalidArgument:
    return InvalidArgument(
        f'"{text}" is not an address; wanted grpc://HOST:PORT or http://HOST:PORT (over TLS: grpcs, https)'
    )
