"""Who may ask, and how often: API keys, rates, origins; and the headers that keep browsers on their guard."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import limits
from flask import Flask, Response, g, request
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from ladle.clients.web.config import Config
from ladle.clients.web.http.problems import Problem, document

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data: blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
EXPOSED = "X-Request-ID, Server-Timing, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset"
TAKEN = "Accept, Authorization, Content-Type, X-API-Key, X-Request-ID"
PREFLIGHT_AGE_S = 600
ANYBODY = ""


class Keys:
    """The keys that are known, as digests alone."""

    def __init__(self, lines: Iterable[str]) -> None:
        """`lines`: "NAME KEY" or "NAME sha256:HEX"; # begins a comment. ValueError: a line is neither, or none is."""
        self._known: list[tuple[str, bytes]] = []
        number = 0
        for number, line in enumerate(lines, 1):
            parts = line.split()
            if not parts or parts[0].startswith("#"):
                continue
            if len(parts) != 2:
                raise ValueError(f'key {number} has {len(parts)} words; wanted "NAME KEY" or "NAME sha256:HEX"')
            name, key = parts
            if key.startswith("sha256:"):
                if not re.fullmatch(r"[0-9a-fA-F]{64}", key[7:]):
                    raise ValueError(f"key {number}: sha256: is not followed by 64 hexadecimal digits")
                digest = bytes.fromhex(key[7:])
            else:
                digest = hashlib.sha256(key.encode()).digest()
            self._known.append((name, digest))
        if number and not self._known:  # everybody could ask
            raise ValueError(f'no key is in {number} lines; wanted "NAME KEY" or "NAME sha256:HEX"')

    def __bool__(self) -> bool:
        return bool(self._known)

    def owner(self, key: str) -> str | None:
        """Whose key it is. Takes as long for a wrong one as for the right one."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = None
        for name, known in self._known:
            if hmac.compare_digest(digest, known):
                found = name
        return found


class Guard:
    """Stands before every guarded route."""

    def __init__(self, config: Config) -> None:
        """ValueError: a key, an origin or the rate cannot be read."""
        self._keys = Keys(config.keys)
        self._origins = frozenset(_origin(text) for text in config.origins)
        self._rate = limits.parse(config.limit) if config.limit else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def install(self, app: Flask, guarded: frozenset[str]) -> None:
        """`guarded`: the endpoints that keys and rates protect."""

        @app.before_request
        def enter() -> Response | None:
            if request.method == "OPTIONS":
                return self._preflight()
            if request.endpoint in guarded or (request.endpoint is None and request.path.startswith("/api/")):
                g.key = self._owner()
                self._count(g.key)
            return None

        if self._origins or self._rate is not None:
            app.after_request(self._leave)
        app.wsgi_app = _with_headers(app.wsgi_app)  # type: ignore[method-assign]

    def _owner(self) -> str:
        """The name of the caller's key. Problem 401: there is none, or nobody knows it."""
        if not self._keys:
            return ANYBODY
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        given = request.headers.get("X-API-Key") or (bearer.strip() if scheme.lower() == "bearer" else "")
        owner = self._keys.owner(given) if given else None
        if owner is None:
            came = "The key is not known" if given else "No key came"
            said = f"{came}; send one as Authorization: Bearer KEY or as X-API-Key: KEY."
            raise Problem(401, said, {"WWW-Authenticate": "Bearer"})
        return owner

    def _count(self, owner: str) -> None:
        """Problem 429: the caller asks too often."""
        if self._rate is None:
            return
        caller = owner if owner != ANYBODY else _network(request.remote_addr or "")
        allowed = self._limiter.hit(self._rate, caller)
        window = self._limiter.get_window_stats(self._rate, caller)
        reset_s = max(1, round(window.reset_time - time.time() + 0.5))
        g.rate = {
            "RateLimit-Limit": str(self._rate.amount),
            "RateLimit-Remaining": str(max(0, window.remaining)),
            "RateLimit-Reset": str(reset_s),
        }
        if not allowed:
            raise Problem(429, f"More than {self._rate} came; ask again in {reset_s} s.", {"Retry-After": str(reset_s)})

    def _preflight(self) -> Response | None:
        """The answer to a browser that asks whether another origin's page may ask; None: Flask answers OPTIONS."""
        if "Access-Control-Request-Method" not in request.headers:
            return None
        if request.headers.get("Origin") not in self._origins:
            return document(403, "Pages of this origin may not ask; the gateway's --origin allows one.")
        response = Response(status=204)
        response.headers["Access-Control-Allow-Methods"] = "GET, POST"
        response.headers["Access-Control-Allow-Headers"] = TAKEN
        response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_AGE_S)
        return response

    def _leave(self, response: Response) -> Response:
        response.headers.update(g.get("rate", {}))
        if self._origins:
            response.vary.add("Origin")
            origin = request.headers.get("Origin")
            if origin in self._origins:
                response.headers["Access-Control-Allow-Origin"] = origin
                response.headers["Access-Control-Expose-Headers"] = EXPOSED
                response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response


def _network(address: str) -> str:
    """Who counts as one caller: an IPv4 address, or 64 bits of an IPv6 address: a host has all of their addresses."""
    try:
        read = ipaddress.ip_address(address)
    except ValueError:  # of a socket, or made up by a proxy
        return address
    if isinstance(read, ipaddress.IPv6Address):
        return str(read.ipv4_mapped or ipaddress.ip_network((int(read) >> 64 << 64, 64)))
    return str(read)


def _origin(text: str) -> str:
    """An origin as browsers send it. ValueError: it is none."""
    parts = urlsplit(text.rstrip("/").lower())
    if not parts.netloc or parts.path or parts.query or parts.fragment:
        raise ValueError(f"the origin {text!r} is none; wanted https://HOST or http://HOST:PORT")
    return f"{parts.scheme}://{parts.netloc}"


def _with_headers(application: Callable[..., Any]) -> Callable[..., Any]:
    """The WSGI application with HEADERS in every answer that does not set them; Werkzeug would check each one anew."""

    def wrapped(environ: Any, start_response: Callable[..., Any]) -> Any:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            present = {name.lower() for name, _ in headers}
            return start_response(status, headers + [each for each in _LIST if each[0].lower() not in present], *error)

        return application(environ, start)

    return wrapped


_LIST = list(HEADERS.items())
