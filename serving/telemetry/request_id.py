"""The id that a caller gave its request: a log line bears it, so that both logs can be read side by side."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

HEADER = "x-request-id"
MAX_CHARACTERS = 128
LOOKING = ("status", "metadata")
"""Methods that run no model: a page asks them every few seconds, so their lines are for DEBUG."""


def log_answer(request_id: str, method: str, model: str, code: str, seconds: float) -> None:
    """Logs one line for a gRPC request with an id. Ids that could break the log's lines are ignored."""
    if len(request_id) <= MAX_CHARACTERS and request_id.isascii() and request_id.isprintable():
        level = logging.DEBUG if method in LOOKING else logging.INFO
        log.log(level, "request %s: %s %s: %s in %.3f ms", request_id, method, model, code, 1000 * seconds)
