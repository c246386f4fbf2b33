"""The server's log: one line for each event, on stderr."""

from __future__ import annotations

import logging
import math
import threading
import time

_EVERY_S = 60.0
_lock = threading.Lock()
_last: dict[str, tuple[float, int]] = {}  # by message: when it was logged, and how often it was left out since


def set_up_log(name: str = "") -> None:
    """Writes messages from INFO up to stderr; `name` begins each one."""
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s %(levelname).1s {name}%(message)s")


def log_caller_error(log: logging.Logger, message: str, *values: object) -> None:
    """Logs what a caller can cause with each request: one line a minute for each `message`, with a count of the others.

    The values fill the message in, as in `log.info`. Any thread may call it.
    """
    now = time.monotonic()
    with _lock:
        since, left_out = _last.get(message, (-math.inf, 0))
        if now - since < _EVERY_S:
            _last[message] = since, left_out + 1
            return
        _last[message] = now, 0
    log.info(message + (f" ({left_out} more such lines were left out)" if left_out else ""), *values)
