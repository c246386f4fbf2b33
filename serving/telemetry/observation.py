"""What one request did and when: taken down for the access log, the request log and traces, if one of them is on."""

from __future__ import annotations

import copy
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from ladle.clients.wire.arrays import Array


class Observation:
    """One request, from its arrival to its answer. Only the event loop writes to it.

    protocol, method   `gRPC` or `REST`; the operation in lower case, such as `predict`
    request_id         of the caller's `x-request-id`; "" without one
    model, version     that the request reached; "" and 0 before it has reached one
    signature          that ran; "" if none did
    arrived            when the request had arrived
    queued             when its inputs had been read and it joined the queue
    began, ended       its run in the engine, or the first and last of several
    finished           when its answer was ready
    rows               of its inputs
    merged             the tasks of its merged run, itself among them; empty if it ran alone
    merged_rows        of that run, without `padding`

    kind               `predict`, `classify`, `regress` or `multi_inference`; "" before it has an answer
    inputs, outputs    as the core has them: arrays by alias; serialized tf.Examples and what became of them
    arm                model, split, arm and version that a split chose for it; None: it was to no split
    output_filter      outputs that a predict asked for; empty: all
    tasks              of a multi_inference

    span               of OpenTelemetry; None if the request is not traced
    epoch_ns           nanoseconds since 1970 at which the clock of the times was 0, for its spans

    Times are `time.perf_counter()` seconds; 0.0: it did not come to that.
    """

    __slots__ = (
        "arm", "arrived", "began", "ended", "epoch_ns", "finished", "inputs", "kind", "merged", "merged_rows", "method",
        "model", "output_filter", "outputs", "padding", "protocol", "queued", "request_id", "rows", "signature",
        "span", "tasks", "version",
    )  # fmt: skip

    def __init__(self, protocol: str, method: str, request_id: str, arrived: float) -> None:
        self.protocol, self.method, self.request_id = protocol, method, request_id
        self.arrived = arrived
        self.model = self.signature = ""
        self.arm: tuple[str, str, str, int] | None = None
        self.version = 0
        self.queued = self.began = self.ended = self.finished = 0.0
        self.rows = 0
        self.merged: Sequence[Any] = ()
        self.kind = ""
        self.span: Any = None
        self.epoch_ns = 0
        self.inputs: Any = ()
        self.outputs: Any = ()
        self.output_filter: Sequence[str] = ()
        self.tasks: Sequence[Any] = ()
        self.merged_rows = self.padding = 0

    def choose(self, model: str, version: int, signature: str) -> None:
        """The request has reached a version and a signature."""
        self.model, self.version, self.signature = model, version, signature

    def join_queue(self) -> None:
        """The request is ready to run. A request of several runs joins once."""
        if not self.queued:
            self.queued = time.perf_counter()

    def run(
        self, began: float, ended: float, rows: int, merged: Sequence[Any] = (), merged_rows: int = 0, padding: int = 0
    ) -> None:
        """The request, or a part of it, has run."""
        self.began = min(self.began, began) if self.began else began
        self.ended = max(self.ended, ended)
        self.rows += rows
        if len(merged) > 1 or padding:
            self.merged, self.merged_rows, self.padding = merged, merged_rows, padding

    async def exchange(
        self, inputs: Mapping[str, Array], output_filter: Sequence[str], run: Awaitable[Mapping[str, Array]]
    ) -> Mapping[str, Array]:
        """The outputs of a predict, which is taken down with its inputs."""
        outputs = await run
        self.answer("predict", inputs, outputs)
        self.output_filter = output_filter
        return outputs

    def answer(self, kind: str, inputs: Any, outputs: Any, tasks: Sequence[Any] = ()) -> None:
        """The request has its answer."""
        self.kind, self.inputs, self.outputs, self.tasks = kind, inputs, outputs, tasks

    def times(self) -> Observation:
        """A copy that holds no inputs, no outputs and no other requests."""
        found = copy.copy(self)
        found.inputs = found.outputs = found.tasks = found.merged = ()
        found.span = None
        return found

    def queue_s(self) -> float | None:
        """Seconds that the request waited for an engine; None if it never ran."""
        return max(0.0, self.began - self.queued) if self.began else None

    def run_s(self) -> float | None:
        """Seconds of its run; None if it never ran."""
        return self.ended - self.began if self.began else None
