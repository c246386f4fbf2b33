"""Access to the API: keys, rate limits and origins (CORS), and the security headers of every response."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
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
from ladle.clients.web.http.problems import Problem, problem_response
from ladle.clients.web.http.wrong_keys import WrongKeys

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
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
EXPOSED_HEADERS = "X-Request-ID, Server-Timing, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset"
ALLOWED_HEADERS = "Accept, Authorization, Content-Type, X-API-Key, X-Request-ID"
PREFLIGHT_AGE_S = 600
ANYBODY = ""
"""Owner of every request when there are no keys."""


class Keys:
    """The valid keys. Only their digests are kept, so a memory dump shows no key."""

    def __init__(self, lines: Iterable[str]) -> None:
        """`lines`: "NAME KEY" or "NAME sha256:HEX" each; # begins a comment. ValueError: a wrong line, or no key."""
        self._known: list[tuple[str, bytes]] = []
        number = 0
        for number, line in enumerate(lines, 1):
            parts = line.split()
            if not parts or parts[0].startswith("#"):
                continue
            if len(parts) != 2:
                raise ValueError(
                    f'line {number} of the keys: got {len(parts)} words; expected "NAME KEY" or "NAME sha256:HEX"'
                )
            name, key = parts
            if key.startswith("sha256:"):
                if not re.fullmatch(r"[0-9a-fA-F]{64}", key[7:]):
                    raise ValueError(f"line {number} of the keys: got a wrong digest; expected 64 hexadecimal digits")
                digest = bytes.fromhex(key[7:])
            else:
                digest = hashlib.sha256(key.encode()).digest()
            self._known.append((name, digest))
        if number and not self._known:
            # Without keys the API is open. A file that was meant to hold keys must not open it.
            raise ValueError('got no key in the lines of the keys; expected "NAME KEY" or "NAME sha256:HEX" in each')

    def __bool__(self) -> bool:
        return bool(self._known)

    def owner(self, key: str) -> str | None:
        """The name that the key belongs to, or None."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = None
        for name, known in self._known:  # all of them, so that the time tells nothing about a wrong key
            if hmac.compare_digest(digest, known):
                found = name
        return found


class AccessControl:
    """Checks each request to a protected route: its key, its rate, its origin."""

    def __init__(self, config: Config) -> None:
        """ValueError: a key, an origin or the rate cannot be read."""
        self._keys = Keys(config.keys)
        self._origins = frozenset(_origin(text) for text in config.origins)
        self._rate = limits.parse(config.limit) if config.limit else None
        self._wrong_keys = WrongKeys()
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def install(self, app: Flask, protected: frozenset[str]) -> None:
        """Add the checks to `app`. `protected`: the endpoints that need a key and count towards the rate."""

        @app.before_request
        def check() -> Response | None:
            if request.method == "OPTIONS":
                return self._preflight()
            # An unknown path below /api/ needs a key too: without one nobody learns which paths exist.
            if request.endpoint in protected or (request.endpoint is None and request.path.startswith("/api/")):
                g.key = self._authenticate()
                self._check_rate(g.key)
            return None

        if self._origins or self._rate is not None:
            app.after_request(self._add_headers)
        app.wsgi_app = _with_headers(app.wsgi_app)  # type: ignore[method-assign]

    def _authenticate(self) -> str:
        """The name of the caller's key.

        Problem 401: no key, or an unknown one; 429: too many unknown ones came from this address or IPv6 network.
        """
        if not self._keys:
            return ANYBODY
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        given = request.headers.get("X-API-Key") or (bearer.strip() if scheme.lower() == "bearer" else "")
        owner = None
        if given:
            caller = _network(request.remote_addr or "")
            owner, wait_s = self._wrong_keys.checked(caller, lambda: self._keys.owner(given))
            if wait_s:
                said = f"Got too many wrong API keys from this address; try again in {math.ceil(wait_s)} s."
                raise Problem(429, said, {"Retry-After": str(math.ceil(wait_s))})
        if owner is None:
            got = "an unknown API key" if given else "no API key"
            said = f"Got {got}; send a valid one as Authorization: Bearer KEY or as X-API-Key: KEY."
            raise Problem(401, said, {"WWW-Authenticate": "Bearer"})
        return owner

    def _check_rate(self, owner: str) -> None:
        """Count the request. Problem 429: the caller has used up the rate."""
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
            raise Problem(429, f"Got more than {self._rate}; try again in {reset_s} s.", {"Retry-After": str(reset_s)})

    def _preflight(self) -> Response | None:
        """The response to a CORS preflight request; None for any other OPTIONS request, which Flask answers."""
        if "Access-Control-Request-Method" not in request.headers:
            return None
        if request.headers.get("Origin") not in self._origins:
            return problem_response(403, "This origin is not allowed; start the gateway with --origin to allow it.")
        response = Response(status=204)
        response.headers["Access-Control-Allow-Methods"] = "GET, POST"
        response.headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
        response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_AGE_S)
        return response

    def _add_headers(self, response: Response) -> Response:
        response.headers.update(g.get("rate", {}))
        if self._origins:
            response.vary.add("Origin")
            origin = request.headers.get("Origin")
            if origin in self._origins:
                response.headers["Access-Control-Allow-Origin"] = origin
                response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
                response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response


def _network(address: str) -> str:
    """What counts as one caller: an IPv4 address, or the first 64 bits of an IPv6 address.

    A host with IPv6 usually owns a whole /64 network and could use a new address for each request.
    """
    try:
        read = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket, or a proxy that sends something else
        return address
    if isinstance(read, ipaddress.IPv6Address):
        return str(read.ipv4_mapped or ipaddress.ip_network((int(read) >> 64 << 64, 64)))
    return str(read)


def _origin(text: str) -> str:
    """The origin as browsers send it. ValueError: it is not an origin."""
    parts = urlsplit(text.rstrip("/").lower())
    if not parts.netloc or parts.path or parts.query or parts.fragment:
        raise ValueError(f"got the origin {text!r}; expected https://HOST or http://HOST:PORT")
    return f"{parts.scheme}://{parts.netloc}"


def _with_headers(application: Callable[..., Any]) -> Callable[..., Any]:
    """The WSGI application with HEADERS in every response that does not set them.

    Not as an `after_request` function: Werkzeug checks each header that is set, which costs more than all else here.
    """

    def wrapped(environ: Any, start_response: Callable[..., Any]) -> Any:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            present = {name.lower() for name, _ in headers}
            return start_response(status, headers + [each for each in _LIST if each[0].lower() not in present], *error)

        return application(environ, start)

    return wrapped


_LIST = list(HEADERS.items())
