"""The access log: a line for each request, with the id that its caller gave, the same over gRPC and REST."""

from __future__ import annotations

import logging
from typing import Any

from ladle.serving.telemetry.observation import Observation

log = logging.getLogger(__name__)

HEADER = "x-request-id"
_MAX_CHARACTERS = 128


class AccessLog:
    """Writes the lines: as text, or with `as_json` as the fields of a JSON line."""

    def __init__(self, as_json: bool = False) -> None:
        self._as_json = as_json

    def write(self, observation: Observation, model: str, code: str, seconds: float, trace_id: str = "") -> None:
        """Logs an answered request; `-` (JSON: null) stands for an id that is missing or could break the log's lines.

        model    that the request named
        seconds  from its arrival
        trace_id only JSON lines show it; "" for a request that is not traced
        """
        request_id, name = _plain(observation.request_id), _plain(observation.model or model)
        if self._as_json:
            log.info("request", extra={"fields": _fields(observation, request_id, name, code, seconds, trace_id)})
            return
        values = request_id or "-", observation.protocol, observation.method, name or "-", code, 1000 * seconds
        log.info("request %s: %s %s %s: %s in %.3f ms", *values)


def _fields(
    observation: Observation, request_id: str, model: str, code: str, seconds: float, trace_id: str
) -> dict[str, Any]:
    return {
        "request_id": request_id or None,
        **({"trace_id": trace_id} if trace_id else {}),
        "protocol": observation.protocol,
        "method": observation.method,
        "model": model or None,
        "version": observation.version or None,
        "signature": observation.signature or None,
        **({"arm": observation.arm[2]} if observation.arm is not None else {}),
        "status": code,
        "rows": observation.rows or None,
        "queue_ms": _milliseconds(observation.queue_s()),
        "run_ms": _milliseconds(observation.run_s()),
        "ms": _milliseconds(seconds),
    }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)


def _plain(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS and text.isascii() and text.isprintable() else ""
