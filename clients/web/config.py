"""The settings of the gateway."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MIB = 2**20
GRPC_PORT, REST_PORT = 8500, 8501
"""Ports of `ladle serve` and of TensorFlow Serving's container."""
PREFIX = "LADLE_GATEWAY_"
METRICS_PATH = "/monitoring/prometheus/metrics"
"""Where a model server has its metrics by default."""


@dataclass(frozen=True)
class Config:
    """Where the models are, who may use them, and the limits of a request. The repr leaves keys out.

    server          address of the model server, grpc://host:port or http://host:port
    server_key      API key of the model server, sent as a bearer token
    ca              PEM file of the CA of the model server's certificate, for grpcs:// and https://; for its metrics too
    server_proxy    HTTP proxy through which the model server and its metrics are asked, http://host:port; "": none
                    (default: local hosts directly, others as https_proxy, no_proxy and their kin say)
    rest            REST address of the same server, http://host:port, for the page's code and the metrics (default:
                    `server` if that is REST; port 8501 of its host if it is grpc://host:8500)
    monitoring_url  address of the model server's Prometheus metrics (default: below `rest`)
    repository      folder of the served models, for their cards, samples and reports
    runs            folder of training's runs, so that the page shows what trains now
    models          show these models only (default: all that the server lists, and those in `repository`)
    timeout_s       seconds for all calls of the model server that one request makes
    keys            API keys, "NAME KEY" or "NAME sha256:HEX" each; without keys the API is open
    rate            most requests per key, such as "1200/minute"; without keys, per IPv4 address or IPv6 /64 network
                    ("": no limit, the default without keys)
    origins         origins whose pages may use the API (CORS)
    proxies         number of reverse proxies in front: the caller is that many from the end of X-Forwarded-For
    access_log      write a JSON line for each request to stdout
    otlp_endpoint   http://HOST:PORT of an OpenTelemetry collector that gets the traces
    max_body_bytes  largest body of a request
    max_pixels      most pixels of all images of a request together
    max_side        images to segment are shrunk to this many pixels on their longer side
    max_images      most images, texts or codes of one request, sent or generated
    max_characters  longest text
    max_words       most words of a text whose influence is measured
    """

    server: str = "grpc://localhost:8500"
    server_key: str | None = field(default=None, repr=False)
    ca: Path | None = None
    server_proxy: str | None = None
    rest: str | None = None
    monitoring_url: str | None = None
    repository: Path | None = None
    runs: Path | None = None
    models: tuple[str, ...] = ()
    timeout_s: float = 20.0
    keys: tuple[str, ...] = field(default=(), repr=False)
    rate: str | None = None
    origins: tuple[str, ...] = ()
    proxies: int = 0
    access_log: bool = False
    otlp_endpoint: str = ""
    max_body_bytes: int = 16 * MIB
    max_pixels: int = 16_000_000
    max_side: int = 1024
    max_images: int = 64
    max_characters: int = 20_000
    max_words: int = 200

    @property
    def rest_url(self) -> str | None:
        """The model server's REST address: `rest`, or its default; None if there is none."""
        address = urlsplit(self.server)
        if self.rest or address.scheme in ("http", "https"):
            return self.rest or self.server
        hosts = _hosts(self.server)
        if address.scheme == "grpc" and len(hosts) == 1 and hosts[0].endswith(f":{GRPC_PORT}"):
            return f"http://{hosts[0].removesuffix(str(GRPC_PORT))}{REST_PORT}"
        return None

    @property
    def metrics_url(self) -> str | None:
        """Address of the model server's metrics, if it is known."""
        return self.monitoring_url or (self.rest_url and self.rest_url.rstrip("/") + METRICS_PATH)

    @property
    def metrics_key(self) -> str | None:
        """The API key for the metrics: the model server's, but only if they are on one of its hosts."""
        own = [urlsplit(f"//{host}").hostname for url in (self.server, self.rest or "") for host in _hosts(url)]
        return self.server_key if urlsplit(self.metrics_url or "").hostname in own else None

    @property
    def limit(self) -> str:
        """The rate that applies; "" for none."""
        if self.rate is None:
            return "1200/minute" if self.keys else ""
        return self.rate


def _hosts(url: str) -> list[str]:
    """grpc://a:8500,b:8500 -> a:8500 and b:8500."""
    return url.partition("://")[2].partition("/")[0].split(",")


def from_environment(environment: Mapping[str, str] = os.environ) -> Config:
    """The settings from a variable for each field: LADLE_GATEWAY_SERVER, LADLE_GATEWAY_REPOSITORY and so on.

    For `gunicorn 'ladle.clients.web:create_app()'`. ValueError names a variable with a wrong value.
    """
    found: dict[str, Any] = {}
    if "LADLE_ADDRESS" in environment:
        found["server"] = environment["LADLE_ADDRESS"]
    for each in fields(Config):
        text = environment.get(PREFIX + each.name.upper())
        if text is None:
            continue
        try:
            found[each.name] = _READ[str(each.type)](text)
        except (ValueError, KeyError):
            raise ValueError(f"{PREFIX}{each.name.upper()}: got {text!r}; expected {each.type}") from None
    return Config(**found)


def _flag(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False, "": False}[text.lower()]


def _several(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.replace("\n", ",").split(",") if part.strip())


_READ: dict[str, Callable[[str], Any]] = {
    "str": str,
    "str | None": str,
    "Path | None": Path,
    "tuple[str, ...]": _several,
    "float": float,
    "int": int,
    "bool": _flag,
}
