"""The id that a caller gave its request: a log line bears it, so that both logs can be read side by side."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)

HEADER = "x-request-id"
MAX_CHARACTERS = 128
LOOKING = ("status", "metadata")
"""Methods that run no model: a page asks them every few seconds, so their lines are for DEBUG."""


def log_answer(context: Any, method: str, model: str, code: str, seconds: float) -> None:
    """One line for a gRPC request that bears an id; none for others, or for what would disturb the log."""
    for key, value in context.invocation_metadata() or ():
        if key == HEADER:
            if isinstance(value, str) and len(value) <= MAX_CHARACTERS and value.isascii() and value.isprintable():
                level = logging.DEBUG if method in LOOKING else logging.INFO
                log.log(level, "request %s: %s %s: %s in %.3f ms", value, method, model, code, 1000 * seconds)
            return
