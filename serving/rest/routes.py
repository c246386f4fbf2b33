"""The operation that a REST path names: TensorFlow Serving's paths, and health and index of KServe's /v2."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from urllib.parse import unquote

_MODEL = r"/v1/models/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?"
_INFER = re.compile(_MODEL + r":(\w+)\Z", re.IGNORECASE)
_ASK = re.compile(_MODEL + r"(/metadata)?\Z", re.IGNORECASE)
_V2 = {
    ("GET", "/v2/health/live"): "live",
    ("GET", "/v2/health/ready"): "ready",
    ("GET", "/v2"): "server",
    ("POST", "/v2/repository/index"): "index",
}
VERBS = ("predict", "classify", "regress")
UNCOUNTED = {"unknown", *_V2.values()}
"""Operations outside /v1/, which no metric counts."""
INT64 = 2**63
MAX_CACHED_PATH = 256
"""Characters; `cached_route` must not be given longer paths: a thousand of them could take 64 MB."""


@dataclass(frozen=True)
class Route:
    """operation  one of VERBS, status, metadata, live, ready, server, index; or why there is none: malformed (400),
               nameless (400), version (beyond int64: 400), unknown (404)
    version    None: the version with this label, or the latest
    """

    operation: str
    name: str = ""
    version: int | None = None
    label: str | None = None


def find_route(method: str, path: str) -> Route:
    """The route of a request; `path` is percent-encoded and ends with the query string, if any."""
    if not path.lower().startswith("/v1/"):
        # HEAD is GET without a body, but not below /v1/, where TensorFlow Serving refuses it.
        return Route(_V2.get(("GET" if method == "HEAD" else method, path), "unknown"))
    if method == "POST":
        match = _INFER.match(path)
        if match is None or match[4] not in VERBS:
            return Route("malformed")
        operation = match[4]
    elif method == "GET":
        if path.lower() == "/v1/models":
            return Route("nameless")
        match = _ASK.match(path)
        if match is None:
            return Route("malformed")
        operation = "metadata" if match[4] == "/metadata" else "status"
    else:
        return Route("malformed")
    version = None
    if match[2] is not None:
        digits = match[2].lstrip("0") or "0"
        if len(digits) > 19 or int(digits) >= INT64:
            return Route("version")
        version = int(digits)
    label = unquote(match[3], errors="replace") if match[3] is not None else None
    return Route(operation, unquote(match[1], errors="replace"), version, label)


cached_route = functools.lru_cache(maxsize=1024)(find_route)
