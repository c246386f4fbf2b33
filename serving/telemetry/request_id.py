"""The id that a caller gives its request. The server logs it, so that its log and the caller's can be read together."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

HEADER = "x-request-id"
_MAX_CHARACTERS = 128
_POLLED_METHODS = ("status", "metadata")
"""Methods that run no model. The page calls them every few seconds, so their lines are logged at DEBUG only."""


def log_answer(request_id: str, method: str, model: str, code: str, seconds: float) -> None:
    """Logs one line for a gRPC request with an id. Ids that could break the log's lines are ignored."""
    if len(request_id) <= _MAX_CHARACTERS and request_id.isascii() and request_id.isprintable():
        level = logging.DEBUG if method in _POLLED_METHODS else logging.INFO
        log.log(level, "request %s: %s %s: %s in %.3f ms", request_id, method, model, code, 1000 * seconds)
