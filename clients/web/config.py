"""What can be set about the gateway."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MIB = 2**20
PREFIX = "LADLE_GATEWAY_"
METRICS_PATH = "/monitoring/prometheus/metrics"
"""Where a model server has them, unless it is told another place."""


@dataclass(frozen=True)
class Config:
    """Where the models are, who may ask, and the limits of a request. No repr tells a key.

    server          address of the model server, grpc://host:port or http://host:port
    server_key      key that the model server wants, sent as a bearer token
    ca              PEM file of the CA of the model server's certificate, for grpcs:// and https://; of the metrics too
    rest            REST address of the same server, http://host:port; for the page's examples and the metrics
    monitoring_url  Prometheus metrics of the model server (default: below `rest`)
    repository      folder of the models that the server serves: names, cards, samples and reports come from it
    models          names of the models, when there is no repository
    timeout_s       seconds that the model server has for all that one request asks of it
    keys            a key a line, "NAME KEY" or "NAME sha256:HEX"; with none, everybody may ask
    rate            requests of one key, as "1200/minute"; without keys, of one address or IPv6 network of 64 bits
                    ("": no limit, the default without keys)
    origins         origins whose pages may ask (CORS)
    proxies         reverse proxies in front: the caller's address is that many from the end of X-Forwarded-For
    access_log      write a JSON line for each request to stdout
    max_body_bytes  largest body of a request
    max_pixels      pixels of all images of a request together
    max_side        images to be segmented are reduced to this many pixels on their longer side
    max_images      most images, texts or codes of one request, sent or generated
    max_characters  longest text
    max_words       words of a text that are explained
    """

    server: str = "grpc://localhost:8500"
    server_key: str | None = field(default=None, repr=False)
    ca: Path | None = None
    rest: str | None = None
    monitoring_url: str | None = None
    repository: Path | None = None
    models: tuple[str, ...] = ()
    timeout_s: float = 20.0
    keys: tuple[str, ...] = field(default=(), repr=False)
    rate: str | None = None
    origins: tuple[str, ...] = ()
    proxies: int = 0
    access_log: bool = False
    max_body_bytes: int = 16 * MIB
    max_pixels: int = 16_000_000
    max_side: int = 1024
    max_images: int = 64
    max_characters: int = 20_000
    max_words: int = 200

    @property
    def metrics_url(self) -> str | None:
        """Where the model server's metrics are, if that is known."""
        return self.monitoring_url or (self.rest and self.rest.rstrip("/") + METRICS_PATH)

    @property
    def metrics_key(self) -> str | None:
        """The key to send for the metrics: the model server's own, at a host of its own; no other is told it."""
        own = [urlsplit(f"//{host}").hostname for url in (self.server, self.rest or "") for host in _hosts(url)]
        return self.server_key if urlsplit(self.metrics_url or "").hostname in own else None

    @property
    def limit(self) -> str:
        """The rate in force; "" for none."""
        if self.rate is None:
            return "1200/minute" if self.keys else ""
        return self.rate


def _hosts(url: str) -> list[str]:
    """grpc://a:8500,b:8500 -> a:8500 and b:8500."""
    return url.partition("://")[2].partition("/")[0].split(",")


def from_environment(environment: Mapping[str, str] = os.environ) -> Config:
    """LADLE_GATEWAY_SERVER, LADLE_GATEWAY_REPOSITORY and so on, a variable a field; commas between several.

    For `gunicorn 'ladle.clients.web:create_app()'`. ValueError names a variable that cannot be read.
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
            raise ValueError(f"{PREFIX}{each.name.upper()} is {text!r}; wanted {each.type}") from None
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
