"""The web gateway: an HTTP API for images, text and numbers, and a page, in front of a model server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ladle.clients.web.config import Config

if TYPE_CHECKING:
    from ladle.clients.web.app import create_app

__all__ = ["Config", "create_app"]


def __getattr__(name: str) -> Any:
    """Import `create_app` at its first use.

    prometheus_client reads the environment when it is imported, and `ladle gateway` sets a variable before that.
    """
    if name == "create_app":
        from ladle.clients.web.app import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
