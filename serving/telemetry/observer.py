"""Sees each request: makes its observation and gives it to the access log.

A server has an observer only if something wants to see requests; without one, requests do no work for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

from ladle.serving.telemetry.access_log import AccessLog
from ladle.serving.telemetry.observation import Observation


class Observer:
    """Gives each observation to those who want it; None: nobody.

    access_log   writes a line for each request
    request_log  gets each request that was answered with OK
    """

    def __init__(
        self, access_log: AccessLog | None = None, request_log: Callable[[Observation], None] | None = None
    ) -> None:
        self._access_log = access_log
        self._request_log = request_log

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
        if self._request_log is not None and code == "OK":
            self._request_log(observation)


def make_observer(
    options: SimpleNamespace, request_log: Callable[[Observation], None] | None = None
) -> Observer | None:
    """The observer that the flags ask for; None if nothing is to be seen."""
    if not options.access_log and request_log is None:
        return None
    access_log = AccessLog(as_json=options.log_format == "json") if options.access_log else None
    return Observer(access_log, request_log)
