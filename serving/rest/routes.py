"""The operation that a REST path names: TensorFlow Serving's paths, and the Open Inference Protocol's below /v2."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from urllib.parse import unquote

from ladle.serving.dataplane.core import DEFAULT_SIGNATURE, ModelSpec

_MODEL = r"/v1/models/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?"
_INFER = re.compile(_MODEL + r":(\w+)\Z", re.IGNORECASE)
_ASK = re.compile(_MODEL + r"(/metadata)?\Z", re.IGNORECASE)
_V2 = {
    ("GET", "/v2/health/live"): "live",
    ("GET", "/v2/health/ready"): "ready",
    ("GET", "/v2"): "v2_server",
    ("GET", "/v2/"): "v2_server",
    ("GET", "/v2/models"): "v2_models",
    ("GET", "/v2/models/stats"): "v2_stats",
    ("POST", "/v2/repository/index"): "v2_index",
}
_V2_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(\w+))?\Z")
_V2_CONTROL = re.compile(r"/v2/repository/models/([^/]+)/(load|unload)\Z")
_V2_OF_MODEL = {
    ("GET", None): "v2_model",
    ("GET", "ready"): "v2_ready",
    ("GET", "config"): "v2_config",
    ("GET", "stats"): "v2_stats",
    ("POST", "infer"): "infer",
}
_V2_METHODS = {path: method for method, path in _V2}
_V2_METHODS_OF_MODEL = {last: method for method, last in _V2_OF_MODEL}
VERBS = ("predict", "classify", "regress")
UNCOUNTED = {"unknown", "method", "alive", "v2_load", "v2_unload", *_V2.values(), *_V2_OF_MODEL.values()} - {"infer"}
"""Operations outside /v1/ that no metric counts."""
INT64 = 2**63
MAX_CACHED_PATH = 256
"""Characters; `cached_route` must not be given longer paths: a thousand of them could take 64 MB."""


@dataclass(frozen=True)
class Route:
    """operation  one of VERBS, status, metadata, models, alive, live, ready; infer and those that begin with v2_ of the
               Open Inference Protocol; or why there is none: malformed (400), version (beyond int64: 400),
               unknown (404), method (405: there is one, by another method)
    version    None: the version with this label, or the latest
    label      below /v2/ the version as it is written, a number or a label; None: the latest. Of `method`, the method
    """

    operation: str
    name: str = ""
    version: int | None = None
    label: str | None = None

    @functools.cached_property
    def default_spec(self) -> ModelSpec:
        """What a path below /v1/ asks for, if its body names no signature."""
        return ModelSpec(self.name, self.version, self.label, DEFAULT_SIGNATURE)


def find_route(method: str, path: str) -> Route:
    """The route of a request; `path` is percent-encoded and ends with the query string, if any."""
    if not path.lower().startswith("/v1/"):
        # HEAD is GET without a body, but not below /v1/, where TensorFlow Serving refuses it.
        return _find_v2("GET" if method == "HEAD" else method, path)
    if method == "POST":
        match = _INFER.match(path)
        if match is None or match[4] not in VERBS:
            return Route("malformed")
        operation = match[4]
    elif method == "GET":
        if path.lower() == "/v1/models":
            return Route("models")
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


def _find_v2(method: str, path: str) -> Route:
    if path == "/" and method == "GET":
        return Route("alive")
    if (method, path) in _V2:
        return Route(_V2[method, path])
    if (control := _V2_CONTROL.match(path)) is not None:
        name = unquote(control[1], errors="replace")
        return Route(f"v2_{control[2]}", name) if method == "POST" else Route("method", label="POST")
    if path in _V2_METHODS:
        return Route("method", label=_V2_METHODS[path])
    match = _V2_MODEL.match(path)
    if match is None or match[3] not in _V2_METHODS_OF_MODEL:
        return Route("unknown")
    operation = _V2_OF_MODEL.get((method, match[3]))
    if operation is None:
        return Route("method", label=_V2_METHODS_OF_MODEL[match[3]])
    version = unquote(match[2], errors="replace") if match[2] is not None else None
    return Route(operation, unquote(match[1], errors="replace"), None, version)


@functools.lru_cache(maxsize=1024)
def cached_route(method: str, path: bytes) -> Route:
    """`find_route`, kept for the next request; of a path as it came."""
    return find_route(method, path.decode("latin-1"))
