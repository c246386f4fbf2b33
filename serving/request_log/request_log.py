"""The request log: chooses requests on the event loop and writes them in a thread.

A request never waits for the disk. The queue is bounded, and `:ladle:serving:request_log_count` counts what was
written, what was dropped because the queue was full or the record too large, and what failed because the disk refused.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import SimpleNamespace

from ladle.clients.wire.tfrecord import frame
from ladle.serving.repository.folders import RequestLogging
from ladle.serving.request_log.files import RecordFiles
from ladle.serving.request_log.record import encode, size_of
from ladle.serving.runtime.cores import lower_priority
from ladle.serving.runtime.log import log_caller_error
from ladle.serving.telemetry.metrics import Metrics
from ladle.serving.telemetry.observation import Observation

log = logging.getLogger(__name__)

MAX_WAITING = 1000
MAX_WAITING_BYTES = 64 * 1024 * 1024
_CLOSE_S = 5.0


class RequestLog:
    """Writes the sampled requests of models with a logging_config.

    configured  gives the logging of each model, as it is now
    max_bytes   of the files of one filename_prefix
    redacted    names whose values are not written (`record.encode`)
    processes   of the server; each writes its own files
    """

    def __init__(
        self,
        configured: Callable[[], Mapping[str, RequestLogging]],
        max_bytes: int,
        redacted: Collection[str] = (),
        processes: int = 1,
        metrics: Metrics | None = None,
    ) -> None:
        self._configured = configured
        self._max_bytes = max_bytes
        self._redacted = frozenset(redacted)
        self._processes = processes
        self._metrics = metrics or Metrics()
        self._waiting: deque[tuple[Observation, RequestLogging, int]] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._files: dict[Path, RecordFiles] = {}
        self._thread: threading.Thread | None = None

    def offer(self, observation: Observation) -> None:
        """Takes an answered request, if its model is logged and the sample has it. Called on the event loop."""
        logging_ = self._configured().get(observation.model)
        if logging_ is None or not observation.kind or random.random() >= logging_.sampling_rate:  # noqa: S311
            return
        size = size_of(observation)
        with self._changed:  # the thread holds it for microseconds, never while it writes
            is_full = len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES
            if not is_full:
                self._waiting.append((observation, logging_, size))
                self._waiting_bytes += size
                self._changed.notify()
        if is_full:
            self._metrics.logged(observation.model, "dropped")
        elif self._thread is None:  # not earlier: a thread does not survive the fork of a guardian
            self._thread = threading.Thread(target=self._write_all, name="request log", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Writes what waits, for a few seconds at most, and closes the files."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _write_all(self) -> None:
        lower_priority()
        while True:
            with self._changed:
                if not self._waiting:
                    if self._is_closed:
                        break
                    self._flush()
                    self._changed.wait()
                    continue
                observation, logging_, size = self._waiting.popleft()
                self._waiting_bytes -= size
            self._metrics.logged(observation.model, self._write(observation, logging_))
        self._flush()
        for files in self._files.values():
            files.close()

    def _write(self, observation: Observation, logging_: RequestLogging) -> str:
        """Writes one request; what became of it, for the metric."""
        files = self._files.get(logging_.prefix)
        if files is None:
            files = self._files[logging_.prefix] = RecordFiles(logging_.prefix, self._max_bytes, self._processes)
        try:
            record = frame(encode(observation, logging_, self._redacted))
            if len(record) > files.max_record_bytes:
                return "dropped"
            files.write(record)
        except OSError as error:
            log_caller_error(log, "a request of %s was not logged: %s", observation.model, error)
            return "failed"
        except Exception:
            log.exception("a request of %s was not logged", observation.model)
            return "failed"
        return "written"

    def _flush(self) -> None:
        for files in self._files.values():
            try:
                files.flush()
            except OSError as error:
                log_caller_error(log, "requests were not logged: %s", error)


def make_request_log(
    options: SimpleNamespace, configured: Callable[[], Mapping[str, RequestLogging]], metrics: Metrics
) -> RequestLog | None:
    """The request log that the flags describe; None without --request_log_dir."""
    if not options.request_log_dir:
        return None
    redacted = [name.strip() for name in options.request_log_redact.split(",") if name.strip()]
    return RequestLog(configured, options.max_request_log_bytes, redacted, options.workers, metrics)
