"""The server's log: one line for each event, on stderr, as text or as JSON."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from datetime import UTC, datetime

FORMATS = ("text", "json")
_EVERY_S = 60.0
_lock = threading.Lock()
_last: dict[str, tuple[float, int]] = {}  # by message: when it was logged, and how often it was left out since


def set_up_log(worker: int = 0, log_format: str = "text") -> None:
    """Writes messages from INFO up to stderr.

    worker      number of this worker process, which each line then shows; 0: this is none
    log_format  one of FORMATS
    """
    name = f"worker {worker}: " if worker else ""
    formatter = logging.Formatter(f"%(asctime)s %(levelname).1s {name}%(message)s")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(worker) if log_format == "json" else formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class JsonFormatter(logging.Formatter):
    """A JSON object in a line: time, level, message, the fields of the event, and an exception's traceback."""

    def __init__(self, worker: int = 0) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {"worker": self._worker} if self._worker else {}
        fields |= getattr(record, "fields", {})
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json_line(record.levelname, record.getMessage(), record.created, **fields)


def json_line(level: str, message: str, seconds: float | None = None, **fields: object) -> str:
    """An event of the log as JSON, without a line break; `seconds` are those since 1970, by default now."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return json.dumps({"time": moment.isoformat(timespec="milliseconds"), "level": level, "message": message, **fields})


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
