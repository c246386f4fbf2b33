"""The web gateway: a small HTTP API with pictures in and out, and a page, in front of a model server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ladle.clients.web.config import Config

if TYPE_CHECKING:
    from ladle.clients.web.app import create_app

__all__ = ["Config", "create_app"]


def __getattr__(name: str) -> Any:
    """`create_app` late: prometheus_client, which it imports, reads the environment that `ladle gateway` sets."""
    if name == "create_app":
        from ladle.clients.web.app import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
