"""The web gateway: a small HTTP API with pictures in and out, and a page, in front of a model server."""

from __future__ import annotations

from clients.web.app import create_app
from clients.web.config import Config

__all__ = ["Config", "create_app"]
