"""tensorflow.ProfilerService: TensorBoard's "capture profile" gets the requests of this process and their operators.

As TensorFlow's own service does, it writes the profile into the folder that the request names, which TensorBoard reads.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ladle.clients.wire import messages as pb
from ladle.clients.wire.arrays import Array
from ladle.serving.errors import FailedPrecondition, InvalidArgument, PermissionDenied, Unavailable
from ladle.serving.grpc.calls import Answer, CallContext
from ladle.serving.runtime.paths import is_inside
from ladle.serving.telemetry.observation import Observation
from ladle.serving.telemetry.observer import Capture, Observer
from ladle.serving.telemetry.xspace import Event, encode, spread

MAX_SECONDS = 60
MAX_SIGNATURES = 16
"""Signatures of which a capture runs one request again, to time its operators."""

Operators = Callable[[str, int, str, Mapping[str, Array]], Sequence[tuple[str, float, float]]]
"""(model, version, signature, inputs) -> each operator with its seconds from the start, began and ended."""


class ProfilerApi:
    """The methods.

    folder     that holds every repository_root of a request; None: the service is off
    observer   sees the requests to capture
    operators  runs a request again and times its operators
    """

    def __init__(self, folder: Path | None, observer: Observer | None, operators: Operators) -> None:
        self._folder = folder
        self._observer = observer
        self._operators = operators
        self._stop: dict[str, asyncio.Event] = {}

    async def profile(self, request: Any, context: CallContext) -> Answer:
        """Captures for `duration_ms` and writes <repository_root>/<session_id>/<host_name>.xplane.pb.

        PermissionDenied for a folder outside --profile_dir, InvalidArgument for other wrong fields, Unavailable while
        another capture runs.
        """
        path = self._path(request)
        capture, epoch_ns = await self._capture(request.duration_ms, request.session_id)
        loop = asyncio.get_running_loop()
        is_empty = await loop.run_in_executor(None, self._write, path, request.host_name, capture, epoch_ns)
        return Answer(pb.ProfileResponse(empty_trace=is_empty).SerializeToString())

    async def terminate(self, request: Any, context: CallContext) -> Answer:
        """Ends the capture of a session before its time."""
        if (stop := self._stop.get(request.session_id)) is not None:
            stop.set()
        return Answer(pb.TerminateResponse().SerializeToString())

    async def monitor(self, request: Any, context: CallContext) -> Answer:
        """What the server did for `duration_ms`, as text."""
        self._check_on()
        began = time.strftime("%H:%M:%S", time.gmtime())
        capture, _ = await self._capture(request.duration_ms, "")
        lines = [f"Timestamp: {began} UTC"] if request.timestamp else []
        seconds = max(request.duration_ms, 1) / 1000
        lines.append(f"Requests: {len(capture.requests)} ({len(capture.requests) / seconds:.1f} a second)")
        by_model: dict[str, list[Observation]] = {}
        for observation in capture.requests:
            by_model.setdefault(observation.model or "(none)", []).append(observation)
        for model, seen in sorted(by_model.items()):
            times = sorted(each.finished - each.arrived for each in seen)
            waits = [each.queue_s() or 0.0 for each in seen]
            lines.append(
                f"  {model}: {len(seen)} requests, p50 {1000 * times[len(times) // 2]:.2f} ms, slowest "
                f"{1000 * times[-1]:.2f} ms, mean wait {1000 * sum(waits) / len(waits):.2f} ms"
            )
        return Answer(pb.MonitorResponse(data="\n".join(lines) + "\n").SerializeToString())

    def _check_on(self) -> Observer:
        if self._folder is None or self._observer is None:
            raise FailedPrecondition(
                "the profiler is off; start the server with --profile_dir=LOGDIR, TensorBoard's folder or one above it"
            )
        return self._observer

    def _path(self, request: Any) -> Path:
        self._check_on()
        assert self._folder is not None
        root = Path(request.repository_root)
        if not root.is_absolute() or not is_inside(root, self._folder):
            raise PermissionDenied(
                f"got repository_root {str(root)[:256]!r}; it is not below the server's --profile_dir, which both "
                "TensorBoard and the server must reach"
            )
        host = request.host_name.replace(":", "_")
        for what, name in (("session_id", request.session_id), ("host_name", host)):
            if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", name):
                raise InvalidArgument(f"got {what} {name[:128]!r}; expected letters, digits, dots, dashes, underlines")
        path: Path = root / request.session_id / f"{host}.xplane.pb"
        return path

    async def _capture(self, duration_ms: int, session: str) -> tuple[Capture, int]:
        observer = self._check_on()
        if not 0 < duration_ms <= 1000 * MAX_SECONDS:
            raise InvalidArgument(f"got duration_ms {duration_ms}; expected 1 to {1000 * MAX_SECONDS}")
        if observer.capture is not None:
            raise Unavailable("another capture runs; try again when it has ended")
        capture = observer.capture = Capture()
        epoch_ns = time.time_ns() - time.perf_counter_ns()
        stop = self._stop[session] = asyncio.Event()
        try:
            await asyncio.wait_for(stop.wait(), duration_ms / 1000)
        except TimeoutError:
            pass
        finally:
            observer.capture = None
            del self._stop[session]
        return capture, epoch_ns

    def _write(self, path: Path, host: str, capture: Capture, epoch_ns: int) -> bool:
        lanes = spread([_events(observation) for observation in capture.requests], "requests")
        for model, version, signature in list(capture.examples)[:MAX_SIGNATURES]:
            inputs = capture.examples[model, version, signature]
            began = max((each.finished for each in capture.requests), default=time.perf_counter())
            found = self._operators(model, version, signature, inputs)
            lanes[f"operators of {model}/{version} {signature}, one request run again"] = [
                Event(name, began + start, began + end, {}) for name, start, end in found
            ]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{os.getpid()}")
            part.write_bytes(encode(host, lanes, epoch_ns))
            part.rename(path)
        except OSError as error:
            raise FailedPrecondition(f"the profile cannot be written: {error.strerror}") from None
        return not capture.requests


def _events(seen: Observation) -> tuple[Event, list[Event]]:
    """A request, and its parts."""
    facts: dict[str, int | str] = {"model": seen.model, "version": seen.version, "signature": seen.signature}
    name = f"{seen.protocol} {seen.method} {seen.model}".strip()
    parts = [("read", seen.arrived, seen.queued or seen.finished)]
    if seen.began:
        parts += [
            ("queue", seen.queued, seen.began),
            ("run", seen.began, seen.ended),
            ("write", seen.ended, seen.finished),
        ]
    whole = Event(name, seen.arrived, seen.finished, {**facts, "rows": seen.rows, "batch_rows": seen.merged_rows})
    return whole, [Event(part, began, max(began, ended), {}) for part, began, ended in parts]
