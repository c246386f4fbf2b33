"""The requests that wait for a thread: a queue for each model, and in it batches that may still grow."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from ladle.serving.errors import DeadlineExceeded, ResourceExhausted
from ladle.serving.scheduling.batch import LATE, Batch, Task
from ladle.serving.scheduling.expectation import doubt
from ladle.serving.scheduling.tick import LATE_IN_QUEUE
from ladle.serving.telemetry.metrics import Metrics


@dataclass(eq=False)
class ModelQueue:
    """What waits for the versions of one model, in order of arrival.

    open_batches  by merge key: the last batch, which may still grow
    batch_counts  by merge key: waiting batches
    waiting       tasks in all batches
    unmerged      requests that ran alone because merging had not paid off
    waiting_s     seconds that the tasks should run, one after the other
    engine_s      engine time that the model has had, in seconds
    """

    batches: deque[Batch] = field(default_factory=deque)
    open_batches: dict[Hashable, Batch] = field(default_factory=dict)
    batch_counts: dict[Hashable, int] = field(default_factory=dict)
    waiting: int = 0
    unmerged: int = 0
    waiting_s: float = 0.0
    engine_s: float = 0.0


class Queues:
    """The queues of all models.

    models                name -> queue
    requests, size_bytes  of all that wait; the size is that of their inputs
    virtual_time_s        engine_s of the model that ran last
    """

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.models: dict[str, ModelQueue] = {}
        self.requests = 0
        self.size_bytes = 0
        self.virtual_time_s = 0.0
        self._metrics = metrics

    def add(self, task: Task, new: Batch) -> None:
        """Puts the task into the open batch of its merge key, or else into a batch like `new`."""
        servable = new.servable
        servable.enter()
        queue = self.models.setdefault(servable.name, ModelQueue())
        if not queue.waiting:
            # A model that was idle has not saved up engine time: it starts level with the one that ran last.
            # Without this, it would keep the engine until it had caught up with hours of others' use.
            queue.engine_s = max(queue.engine_s, self.virtual_time_s)
        batch = queue.open_batches.get(new.merge_key) if new.batching is not None else None
        if batch is None or not batch.has_room(task.rows):
            batch = Batch(servable, new.call, new.batching, new.merge_key)
            queue.batches.append(batch)
            if new.batching is not None:
                queue.open_batches[new.merge_key] = batch
                queue.batch_counts[new.merge_key] = queue.batch_counts.get(new.merge_key, 0) + 1
        batch.tasks.append(task)
        batch.rows += task.rows
        task.batch = batch
        self.count(batch, [task], 1)

    def count(self, batch: Batch, tasks: Sequence[Task], sign: int) -> None:
        """Counts tasks of a batch that begin to wait (`sign` 1) or no longer wait (-1)."""
        name = batch.servable.name
        queue = self.models[name]
        queue.waiting += sign * len(tasks)
        queue.waiting_s += sign * sum([task.expected_s for task in tasks])
        if not queue.waiting:
            queue.waiting_s = 0.0  # without what rounding has left
        self.requests += sign * len(tasks)
        self.size_bytes += sign * sum(task.size_bytes for task in tasks)
        if self._metrics is not None:
            self._metrics.queued(name, sign * len(tasks))

    def expire(self, task: Task) -> None:
        """Fails a task whose deadline has passed, and takes it out of its queue."""
        if not task.future.done():
            merges = task.batch is not None and task.batch.is_waiting and task.batch.batching is not None
            task.future.set_exception(ResourceExhausted(LATE_IN_QUEUE) if merges else DeadlineExceeded(LATE))
            if task.batch is not None and not task.is_part:
                task.batch.servable.usage.fail(time.monotonic() - task.arrived)
            self.abandon(task)

    def abandon(self, task: Task) -> None:
        """Drops a task that nobody waits for. A waiting task leaves its queue; a running one is stopped."""
        if task.timer is not None:
            task.timer.cancel()
        if not task.future.done():
            task.future.cancel()
        elif not task.future.cancelled():
            task.future.exception()  # asyncio warns of an exception that nobody has read; only one part's is raised
        batch = task.batch
        if batch is not None and batch.is_waiting and task in batch.tasks:
            batch.tasks.remove(task)
            batch.rows -= task.rows
            self.count(batch, [task], -1)
            if not batch.tasks:
                self._close(batch)
                with contextlib.suppress(ValueError):  # the dispatcher has taken it out already
                    self.models[batch.servable.name].batches.remove(batch)
            batch.servable.leave()
        elif batch is not None and not batch.is_waiting:
            batch.stop_if_abandoned()

    def _close(self, batch: Batch) -> None:
        """Marks a batch that starts or is empty: no task may join it any more."""
        batch.is_waiting = False
        if batch.batching is None:
            return
        queue = self.models[batch.servable.name]
        if queue.open_batches.get(batch.merge_key) is batch:
            del queue.open_batches[batch.merge_key]
        queue.batch_counts[batch.merge_key] -= 1
        if not queue.batch_counts[batch.merge_key]:
            del queue.batch_counts[batch.merge_key]

    def start(self, batch: Batch) -> bool:
        """Takes the batch out of the queue; False when all of its tasks have left."""
        self.expire_late(batch)
        if not batch.is_waiting:
            return False
        self.count(batch, batch.tasks, -1)
        self._close(batch)
        batch.record_start(self._metrics)
        return True

    def expire_late(self, batch: Batch) -> None:
        """Fails the tasks whose deadline has passed, or will have passed when the run ends."""
        # A task's timer may be late itself, when the event loop is busy.
        ends = time.monotonic() + sum([task.expected_s for task in batch.tasks])
        late = [task for task in batch.tasks if task.deadline is not None and ends >= task.deadline]
        if late:
            doubt(batch.servable.latencies[batch.call.signature], batch.batching, late[0])
        for task in late:
            self.expire(task)
