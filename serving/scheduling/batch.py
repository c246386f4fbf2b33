"""A batch: requests of one kind that wait together and run together, in a thread or on the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ladle.clients.wire.arrays import Array
from ladle.serving.scheduling import batching
from ladle.serving.servables.batching_parameters import Batching
from ladle.serving.servables.latency import size_of
from ladle.serving.servables.servable import Servable

Tensors = Mapping[str, Array]
Outputs = Tensors
log = logging.getLogger(__name__)

_GAIN = 0.95  # of the time of a row alone: what a row of a merged run must come down to


class Shape(NamedTuple):
    """What is to be known of a request's inputs besides their values.

    rows  0 when they are not to be merged with others    size  see `size_of`
    kind  what requests must share to be merged; None when they are not to be. It does not keep the servable in memory
    """

    rows: int
    size: int
    kind: Hashable


@dataclass(eq=False, slots=True)
class Call:
    """What a request asks: a signature of a servable, its outputs by alias, and for which API (for the metrics).

    shape  of the inputs, where all that ask this have the same; None: they may differ
    """

    servable: Servable
    signature: str
    outputs: tuple[str, ...]
    api: str
    shape: Shape | None = None

    def shape_of(self, inputs: Tensors) -> Shape:
        """InvalidArgument for inputs that cannot be merged, where batching is on."""
        parameters = self.servable.batching
        rows = batching.count_rows(inputs, parameters) if parameters is not None else 0
        kind = None
        if rows and parameters is not None:
            kind = id(self.servable), self.signature, batching.kind_of(self.outputs, inputs, parameters)
        return Shape(rows, size_of(inputs), kind)


@dataclass(eq=False)
class Task:
    """A request, or a part of a large one, that waits or runs.

    size_bytes         what its inputs take
    deadline, arrived  `time.monotonic()` seconds
    """

    inputs: Tensors
    rows: int
    size_bytes: int
    future: asyncio.Future[Outputs]
    deadline: float | None = None
    batch: Batch | None = None
    arrived: float = field(default_factory=time.monotonic)
    timer: asyncio.TimerHandle | None = None


@dataclass(eq=False)
class Batch:
    """Tasks of one call and kind. `batching` is None for a request that runs as it came, `kind` is of no use then."""

    call: Call
    batching: Batching | None
    kind: Hashable
    tasks: list[Task] = field(default_factory=list)
    rows: int = 0
    is_waiting: bool = True

    def has_room(self, rows: int) -> bool:
        return self.batching is not None and self.rows + rows <= self.batching.limit

    def is_quick(self) -> bool:
        """Whether it may run on the event loop. (A request that runs as it came would not have waited.)"""
        if self.batching is None:
            return False
        size = sum(size_of(task.inputs) for task in self.tasks)
        return self.call.servable.paces[self.call.signature].is_quick(size)

    def gains(self) -> bool:
        """Whether a row takes less in the merged run than alone, as far as calls of these sizes have been measured."""
        if self.batching is None or self.batching.allowed_batch_sizes or len(self.tasks) < 2:
            return True
        pace, sizes = self.call.servable.paces[self.call.signature], [size_of(task.inputs) for task in self.tasks]
        alone, merged = pace.measured_s(sizes[0]), pace.measured_s(sum(sizes))
        return alone is None or merged is None or merged / self.rows <= _GAIN * alone / self.tasks[0].rows

    def take_first(self) -> Batch:
        """A batch of the first task alone, which leaves this one."""
        task = self.tasks.pop(0)
        self.rows -= task.rows
        task.batch = Batch(self.call, self.batching, self.kind, [task], task.rows, is_waiting=False)
        return task.batch

    def run(self) -> tuple[list[Outputs | Exception], float]:
        """The outputs or the error of each task, and the seconds taken.

        When merged requests fail, each is run by itself, so that only the one at fault fails.
        """
        start = time.perf_counter()
        results: list[Outputs | Exception] = []
        try:
            results.extend(self._run(self.tasks))
        except Exception as error:
            if len(self.tasks) == 1:
                results = [error]
            else:
                log.info("%s: a merged run failed, its requests run one by one", self.call.servable.name)
                results = [self._run_alone(task) for task in self.tasks]
        return results, time.perf_counter() - start

    def _run_alone(self, task: Task) -> Outputs | Exception:
        try:
            return self._run([task])[0]
        except Exception as error:
            return error

    def _run(self, tasks: Sequence[Task]) -> list[Outputs]:
        requests, sizes = [task.inputs for task in tasks], [task.rows for task in tasks]
        return run_merged(self.call, self.batching, requests, sizes)


@dataclass(eq=False)
class Lane:
    """What waits for the versions of one model, in order of arrival.

    growing  the last batch of each kind, which may still grow    counts  batches of each kind
    alone    requests that ran by themselves because merging had not paid
    spent_s  engine time that the model had; one that was idle has not saved any up
    """

    batches: deque[Batch] = field(default_factory=deque)
    growing: dict[Hashable, Batch] = field(default_factory=dict)
    counts: dict[Hashable, int] = field(default_factory=dict)
    waiting: int = 0
    alone: int = 0
    spent_s: float = 0.0


def run_merged(
    call: Call, parameters: Batching | None, requests: Sequence[Tensors], sizes: Sequence[int]
) -> list[Outputs]:
    """The outputs of each request, run together; without parameters there is one, which runs as it came."""
    if parameters is None:
        return [call.servable.run(call.signature, requests[0], call.outputs)]
    rows = sum(sizes)
    padding = parameters.padded(rows) - rows
    merged = batching.merge(requests, padding, parameters.pad_variable_length_inputs)
    return batching.split(call.servable.run(call.signature, merged, call.outputs), sizes, padding)


def rows_of(inputs: Tensors) -> int:
    """Rows of the first input; 1 for a scalar and for none."""
    first = next(iter(inputs.values()), None)
    return len(first) if first is not None and first.ndim else 1


def bytes_of(inputs: Tensors) -> int:
    """What the inputs take in memory, about."""
    return sum(
        array.nbytes + (sum(map(len, array.ravel().tolist())) if array.dtype == object else 0)
        for array in inputs.values()
    )
