"""Addresses of model servers: `grpc://host:port`, `grpcs://`, `http://`, `https://`; several gRPC hosts with commas.

`oip+` before any of them asks by the Open Inference Protocol in place of TensorFlow Serving's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ladle.clients.errors import InvalidArgument

OPEN_INFERENCE = "oip+"
PORTS = {"grpc": 8500, "grpcs": 8500, "http": 8501, "https": 8501}
PORTS |= {OPEN_INFERENCE + scheme: port for scheme, port in PORTS.items()}
"""The default port of each scheme, as TensorFlow Serving has them."""


@dataclass(frozen=True)
class Address:
    """One server, or several that serve the same models over gRPC.

    scheme  grpc, grpcs, http or https; before it `oip+` for the Open Inference Protocol
    hosts   `host:port` each, or `unix:/path`
    path    over REST, what stands before /v1 or /v2, e.g. behind a proxy
    """

    scheme: str
    hosts: tuple[str, ...]
    path: str = ""

    @property
    def is_open_inference(self) -> bool:
        return self.scheme.startswith(OPEN_INFERENCE)

    @property
    def transport(self) -> str:
        """The scheme without the protocol: grpc, grpcs, http or https."""
        return self.scheme.removeprefix(OPEN_INFERENCE)

    @property
    def is_rest(self) -> bool:
        return self.transport.startswith("http")

    @property
    def is_secure(self) -> bool:
        return self.scheme.endswith("s")

    def __str__(self) -> str:
        return f"{self.scheme}://{','.join(self.hosts)}{self.path}"


def parse(text: str) -> Address:
    """Parse an address; missing ports get the scheme's default. InvalidArgument: no address, or several REST hosts."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in PORTS:
        raise _refused(text)
    places, slash, path = rest.partition("/")
    is_grpc = scheme.removeprefix(OPEN_INFERENCE).startswith("grpc")
    if is_grpc and rest.startswith("unix:"):
        return Address(scheme, (rest,))
    if (is_grpc and path) or not path.isascii() or not rest.isprintable() or set(rest) & set(" ?#"):
        raise _refused(text)
    hosts = tuple(_host(scheme, place, text) for place in places.split(","))
    if not is_grpc and len(hosts) > 1:
        raise InvalidArgument(f'got "{text}" with {len(hosts)} hosts; expected one over REST, several only over gRPC')
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
        f'got "{text}", which is not an address; expected grpc://HOST:PORT or http://HOST:PORT (TLS: grpcs, https; '
        "Open Inference Protocol: oip+grpc, oip+http)"
    )
