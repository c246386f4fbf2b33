"""The access log: a line for each request, with the id that its caller gave, the same over gRPC and REST."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

HEADER = "x-request-id"
_MAX_CHARACTERS = 128


def log_request(request_id: str, protocol: str, method: str, model: str, code: str, seconds: float) -> None:
    """Logs an answered request; `-` stands for an id that is missing or could break the log's lines."""
    shown = request_id if len(request_id) <= _MAX_CHARACTERS and _is_plain(request_id) else "-"
    name = model if len(model) <= _MAX_CHARACTERS and _is_plain(model) else "-"
    log.info("request %s: %s %s %s: %s in %.3f ms", shown or "-", protocol, method, name or "-", code, 1000 * seconds)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
