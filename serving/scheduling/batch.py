"""A batch: requests of one kind that run as one. Their rows are merged before the run and split after it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ladle.serving.errors import DeadlineExceeded, ServingError
from ladle.serving.runtime.log import log_caller_error
from ladle.serving.runtime.stopping import Stop
from ladle.serving.scheduling.rows import Tensors, count_rows, merge, merge_key, rows_of, split
from ladle.serving.servables.batching_parameters import Batching
from ladle.serving.servables.servable import Ready, Servable
from ladle.serving.telemetry.metrics import Metrics
from ladle.serving.telemetry.observation import Observation

Outputs = Tensors
log = logging.getLogger(__name__)

LATE = "the request was not answered in time"
_WORTHWHILE = 0.95  # merging pays off if a row takes at most this share of the time of a row alone


class InputSummary(NamedTuple):
    """Row count, size and merge key of a request's inputs.

    rows       of the first input; 1 for a scalar
    size       as the signature's Latency counts it
    merge_key  equal for requests that may run together; None when batching is off or there are no rows. It holds the
               id of the servable, not the servable: an unloaded version must leave memory at once
    """

    rows: int
    size: int
    merge_key: Hashable


class Call(NamedTuple):
    """What a request runs: a signature, its outputs by alias, and the API that asked (for the metrics).

    summary  of the inputs, when every request with this call has inputs of the same shapes; None otherwise
    ready    runs them, where that saves time
    """

    signature: str
    outputs: tuple[str, ...]
    api: str
    summary: InputSummary | None = None
    ready: Ready | None = None


def summarize(servable: Servable, call: Call, inputs: Tensors) -> InputSummary:
    """The summary of a request's inputs; InvalidArgument when batching is on and they cannot be batched."""
    batching, key = servable.batching, None
    if batching is None:
        rows = rows_of(inputs)
    elif rows := count_rows(inputs, batching):
        key = id(servable), call.signature, merge_key(call.outputs, inputs, batching)
    return InputSummary(rows, servable.latencies[call.signature].size_of(inputs), key)


@dataclass(eq=False)
class Task:
    """A request, or one part of a large request, that waits or runs.

    rows               of its inputs
    size, expected_s   of its inputs, as the signature's Latency counts them (0: not yet); seconds that it should run
    size_bytes         memory that its inputs take
    deadline, arrived  `time.monotonic()` seconds
    batch              holds the task, until the task is answered
    observation        takes down when the task runs
    is_part, run_s     whether it is one of several parts; seconds of the run, once it has run
    """

    inputs: Tensors
    rows: int
    size_bytes: int
    future: asyncio.Future[Outputs]
    deadline: float | None = None
    batch: Batch | None = None
    arrived: float = field(default_factory=time.monotonic)
    observation: Observation | None = None
    timer: asyncio.TimerHandle | None = field(default=None, init=False)
    size: int = 0
    expected_s: float = 0.0
    is_part: bool = field(default=False, init=False)
    run_s: float = field(default=0.0, init=False)


@dataclass(eq=False)
class Batch:
    """Tasks with one call and one merge key. Without `batching` it holds a single task, which runs unchanged.

    stop      ends the run when nobody waits for it any more
    is_spare  runs on a thread that is kept for short runs
    is_long   runs on one of the other threads, and should take long
    began     `time.perf_counter()` seconds at which its run began
    """

    servable: Servable
    call: Call
    batching: Batching | None
    merge_key: Hashable
    tasks: list[Task] = field(default_factory=list)
    rows: int = 0
    is_waiting: bool = True
    is_spare: bool = False
    is_long: bool = False
    stop: Stop = field(default_factory=Stop)
    began: float = 0.0

    def has_room(self, rows: int) -> bool:
        return self.batching is not None and self.rows + rows <= self.batching.limit

    def is_quick(self) -> bool:
        """Whether the batch may run on the event loop."""
        if self.batching is None:  # a quick request that is never merged does not queue in the first place
            return False
        return self.servable.latencies[self.call.signature].is_quick(sum(self._sizes()))

    def expected_s(self) -> float | None:
        """Seconds that the batch should take; None if its signature has not been measured."""
        return self.servable.latencies[self.call.signature].expected_s(sum(self._sizes()))

    def stop_if_abandoned(self) -> None:
        """Stops the run if nobody waits for any of its answers."""
        if all(task.future.done() for task in self.tasks):
            self.stop.set()

    def pays_off(self) -> bool:
        """Whether a row takes less time in the merged run than alone; True until both sizes have been measured."""
        # Merging saves what a run costs beside its rows. A large convolution has next to none of that: two merged
        # images can take longer than one after the other, because they no longer fit the processor's cache.
        if self.batching is None or self.batching.allowed_batch_sizes or len(self.tasks) < 2:
            return True
        latency = self.servable.latencies[self.call.signature]
        sizes = self._sizes()
        alone, merged = latency.measured_s(sizes[0]), latency.measured_s(sum(sizes))
        return alone is None or merged is None or merged / self.rows <= _WORTHWHILE * alone / self.tasks[0].rows

    def _sizes(self) -> list[int]:
        """Of the tasks' inputs, as the signature's Latency counts them."""
        count = self.servable.latencies[self.call.signature].size_of
        return [task.size or count(task.inputs) for task in self.tasks]

    def take_first(self) -> Batch:
        """Moves the first task into a batch of its own, and returns that."""
        task = self.tasks.pop(0)
        self.rows -= task.rows
        task.batch = Batch(self.servable, self.call, self.batching, self.merge_key, [task], task.rows, is_waiting=False)
        return task.batch

    def run(self) -> tuple[list[Outputs | Exception], float]:
        """The outputs or the error of each task, and the seconds that the run took.

        When a merged run fails, each task runs again alone, so that only the one at fault fails.
        """
        start = self.began = time.perf_counter()
        results: list[Outputs | Exception] = []
        try:
            self.stop.check()
            results.extend(self._run(self.tasks))
        except Exception as error:
            if len(self.tasks) == 1 or self.stop.is_set:
                results = [_bare(error)] * len(self.tasks)
            else:
                log_caller_error(log, "%s: a merged run failed; its requests now run one by one", self.servable.name)
                results = [self._run_alone(task) for task in self.tasks]
        return results, time.perf_counter() - start

    def record_start(self, metrics: Metrics | None) -> None:
        """Counts the batch, and how long its tasks have waited, when it is about to run."""
        if metrics is not None and self.batching is not None:
            now = time.monotonic()
            waited, sizes = [now - task.arrived for task in self.tasks], [task.rows for task in self.tasks]
            padding = self.batching.padded(self.rows) - self.rows
            metrics.batch(self.servable.name, self.call.signature, self.rows, padding, waited, sizes)

    def deliver(self, results: Sequence[Outputs | Exception], seconds: float, metrics: Metrics | None) -> None:
        """Answers the tasks with what `run` has returned, and counts them. On the event loop."""
        servable, call, now = self.servable, self.call, time.monotonic()
        usage = servable.usage
        usage.last = self.began
        succeeded = False
        if metrics is not None:
            request_s = [now - task.arrived for task in self.tasks]
            metrics.runtime(servable.name, call.signature, seconds, self.rows, call.api, request_s)
        answered, answered_rows, answered_s, run_s = 0, 0, 0.0, 0.0
        for task, result in zip(self.tasks, results, strict=True):
            if task.observation is not None:
                padding = self.batching.padded(self.rows) - self.rows if self.batching is not None else 0
                task.observation.run(self.began, self.began + seconds, task.rows, self.tasks, self.rows, padding)
            has_failed = isinstance(result, Exception)
            succeeded = succeeded or not has_failed
            task.run_s = seconds
            future = task.future
            if not future.done():
                spent_s = now - task.arrived
                if isinstance(result, Exception):
                    future.set_exception(result)
                elif task.deadline is not None and now >= task.deadline:  # its timer is late, too
                    future.set_exception(DeadlineExceeded(LATE))
                    has_failed = True
                else:
                    future.set_result(result)
                if task.is_part:  # the request counts once all of its parts are there
                    pass
                elif has_failed:
                    usage.fail(spent_s)
                else:
                    answered += 1
                    answered_rows += task.rows
                    answered_s += spent_s
                    run_s += seconds if seconds < spent_s else spent_s
            # Task and batch refer to each other. Cut here, so that an unloaded version's memory is free as soon as
            # its last answer is out, not at the next garbage collection.
            task.batch = None
            servable.in_flight -= 1  # leave(), once for all of them
        if answered:
            usage.answer(answered_s, run_s, answered_rows, answered)
        if succeeded:
            usage.run(self.rows, seconds)
        if self.tasks:
            servable.notify_if_idle()

    def _run_alone(self, task: Task) -> Outputs | Exception:
        try:
            return self._run([task])[0]
        except Exception as error:
            return _bare(error)

    def _run(self, tasks: Sequence[Task]) -> list[Outputs]:
        requests, sizes = [task.inputs for task in tasks], [task.rows for task in tasks]
        if self.batching is None:
            return [self.servable.run(self.call.signature, requests[0], self.call.outputs, tasks[0].size or None)]
        return run_merged(self.servable, self.call, self.batching, requests, sizes, self.merge_key)


def _bare(error: Exception) -> Exception:
    """The error; one that is meant for the client without the frames that it passed.

    They refer to the servable, and through the futures of their tasks to the error again: an unloaded version would
    stay in memory until the next garbage collection.
    """
    if isinstance(error, ServingError):
        error.__traceback__ = error.__context__ = None
    return error


def run_merged(
    servable: Servable,
    call: Call,
    batching: Batching,
    requests: Sequence[Tensors],
    sizes: Sequence[int],
    merge_key: Hashable = None,
) -> list[Outputs]:
    """Runs requests together, padded to an allowed size, and returns the outputs of each; `sizes` are their rows."""
    rows = sum(sizes)
    padding = batching.padded(rows) - rows
    merged = merge(requests, padding, batching.pad_variable_length_inputs)
    ready = None
    if merge_key is not None and not batching.pad_variable_length_inputs:  # key and rows decide the shapes
        ready = servable.prepared((merge_key, rows + padding), call.signature, merged, call.outputs)
    return split(servable.run(call.signature, merged, call.outputs, None, ready), sizes, padding)
