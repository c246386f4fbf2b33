"""Sees each request: makes its observation and gives it to the access log.

A server has an observer only if something wants to see requests; without one, requests do no work for it.
"""

from __future__ import annotations

import time
from types import SimpleNamespace

from ladle.serving.telemetry.access_log import AccessLog
from ladle.serving.telemetry.observation import Observation


class Observer:
    """access_log  None: requests leave no lines in the log"""

    def __init__(self, access_log: AccessLog | None = None) -> None:
        self._access_log = access_log

    def begin(self, protocol: str, method: str, request_id: str, arrived: float | None = None) -> Observation:
        """The observation of a request that has arrived.

        arrived  `time.monotonic()` seconds; None: now
        """
        now = time.perf_counter()
        return Observation(protocol, method, request_id, now if arrived is None else now - time.monotonic() + arrived)

    def end(self, observation: Observation, model: str, code: str, seconds: float) -> None:
        """The request has been answered.

        model    that it named, for one that reached none
        code     canonical code, or OK
        seconds  from its arrival
        """
        if self._access_log is not None:
            self._access_log.write(observation, model, code, seconds)


def make_observer(options: SimpleNamespace) -> Observer | None:
    """The observer that the flags ask for; None if nothing is to be seen."""
    if not options.access_log:
        return None
    return Observer(AccessLog(as_json=options.log_format == "json"))
