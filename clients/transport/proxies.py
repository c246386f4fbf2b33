"""The way to a model server: directly, or through an HTTP proxy that an option or a variable of the environment names.

Docker and shells set `http_proxy` and its kin for every program. A proxy cannot reach the servers of this machine or of
a private network, so these are always asked directly, unless the caller names the proxy.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ladle.clients.errors import InvalidArgument

VARIABLES = {
    "grpc": ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy"),
    "http": ("http_proxy", "all_proxy"),
    "https": ("https_proxy", "all_proxy"),
}
"""The variables that name a proxy, the first that is set counts. gRPC's own order for gRPC, curl's for HTTP."""
_LOCAL_DOMAINS = (".localhost", ".local", ".internal")
_NETWORKS = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")]
_MOST_HEAD_BYTES = 1 << 16


class RefusedByProxyError(OSError):
    """The proxy answered that it does not connect."""


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy. `credentials` is USER:PASSWORD, percent-encoded; str() and errors leave it out."""

    host: str
    port: int
    credentials: str = field(default="", repr=False)

    @property
    def authorization(self) -> str | None:
        """The value of Proxy-Authorization."""
        if not self.credentials:
            return None
        user, _, password = self.credentials.partition(":")
        pair = f"{unquote(user)}:{unquote(password)}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"

    @property
    def url(self) -> str:
        """With the credentials."""
        return f"http://{self.credentials}@{self.address}" if self.credentials else str(self)

    @property
    def address(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __str__(self) -> str:
        return f"http://{self.address}"


@dataclass(frozen=True)
class Route:
    """The way to one host.

    proxy   None: directly
    remark  what an error says of the proxy, or of a variable that was not followed; begins with punctuation
    """

    proxy: Proxy | None = None
    remark: str = ""


def route(scheme: str, host: str, proxy: str | None = None, environment: Mapping[str, str] = os.environ) -> Route:
    """The way to `host`, a `host:port` or `unix:/path`.

    proxy  http://HOST:PORT, through which every host is asked; "": ask every host directly; None: ask local hosts
           directly, and others as the variables of the environment say

    InvalidArgument: `proxy` is not the address of an HTTP proxy.
    """
    if host.startswith("unix:") or proxy == "":
        return Route()
    if proxy is not None:
        chosen = _parse(proxy)
        if chosen is None:
            raise InvalidArgument(f'got the proxy {_masked(proxy)!r}; expected http://HOST:PORT, or "" for none')
        return Route(chosen, f", asked through the proxy {chosen}; correct the option `proxy`, or leave it out")
    kind = scheme if scheme.startswith("http") else "grpc"
    variable, text = _first(VARIABLES[kind], environment)
    if not variable:
        return Route()
    name = urlsplit(f"//{host}").hostname or host
    if is_local(name):
        return Route(
            None,
            f"; {variable} is set, but local hosts are asked directly; to ask through a proxy, give the option `proxy`",
        )
    exception, names = _first(("no_grpc_proxy", "no_proxy") if kind == "grpc" else ("no_proxy",), environment)
    if exception and _is_named(host, name, names):
        return Route(None, f"; {variable} is set, but {exception} names this host; correct the one that is wrong")
    chosen = _parse(text)
    if chosen is None:
        return Route(None, f"; {variable} is set, but not to http://HOST:PORT, so it is not followed; correct it")
    return Route(chosen, f", asked through the proxy {chosen} of {variable}; correct it, or add {name} to no_proxy")


def is_local(name: str) -> bool:
    """Whether a host is on this machine or in a private network.

    True for loopback, private and link-local addresses, for names without a dot, such as a service of Docker Compose,
    and for names below .localhost, .local and .internal. Names are not looked up.
    """
    name = name.rstrip(".").lower()
    address = _address(name)
    if address is None:
        return "." not in name or name.endswith(_LOCAL_DOMAINS)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback or address.is_link_local or address.is_unspecified:
        return True
    return any(address.version == network.version and address in network for network in _NETWORKS)


def tunnel(proxy: Proxy, host: str, timeout_s: float | None) -> socket.socket:
    """A connection to `host`, a `host:port`, through a proxy. OSError says why there is none."""
    connection = socket.create_connection((proxy.host, proxy.port), timeout_s)
    try:
        authorization = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
        connection.sendall(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n".encode("latin-1"))
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(4096)
            head += piece
            if not piece or len(head) > _MOST_HEAD_BYTES:
                raise RefusedByProxyError("the proxy does not speak HTTP")
        if not re.match(rb"HTTP/1\.\d 2\d\d\b", head):
            raise RefusedByProxyError(refusal(head.split(b"\r\n")[0].partition(b" ")[2].decode("latin-1")[:60]))
    except BaseException:
        connection.close()
        raise
    return connection


def refusal(status: object) -> str:
    """What a proxy's status says about a connection that it was asked for."""
    return f"the proxy answers with status {status}"


def _first(variables: tuple[str, ...], environment: Mapping[str, str]) -> tuple[str, str]:
    """The first variable that is set, in lower or upper case, and its value; two empty texts if none is."""
    for lower in variables:
        for name in (lower, lower.upper()):
            # A web server that runs a program as CGI sets HTTP_PROXY to the header Proxy of whoever asks.
            if environment.get(name) and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in environment):
                return name, environment[name].strip()
    return "", ""


def _parse(text: str) -> Proxy | None:
    """`http://user:password@host:port`, where all but the host may be missing; None: something else."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        return None
    if parts.scheme != "http" or not host or parts.path.strip("/") or parts.query or parts.fragment:
        return None
    return Proxy(host, port, parts.netloc.rpartition("@")[0])


def _masked(text: str) -> str:
    """A proxy's address without user and password."""
    before, at, after = text.rpartition("@")
    return f"{before.partition('://')[0]}://…@{after}" if at and "://" in before else after


def _is_named(host: str, name: str, names: str) -> bool:
    """Whether `no_proxy` names a host: itself, a domain above it, a network that holds its address, or `*`."""
    address = _address(name)
    for entry in (entry.strip().lower() for entry in names.split(",")):
        if entry == "*" or entry in (host.lower(), name):
            return True
        domain = entry.removeprefix("*").lstrip(".")
        if not entry or not domain:
            continue
        if address is None:
            if f".{name}".endswith(f".{domain}") or f".{host.lower()}".endswith(f".{domain}"):
                return True
        elif "/" in entry:
            try:
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
            except ValueError:
                continue
    return False


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
