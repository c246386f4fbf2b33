"""How many requests may wait: a server with too much to do refuses at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

from ladle.serving.errors import ResourceExhausted, Unavailable
from ladle.serving.scheduling.batch import Batch, Task
from ladle.serving.scheduling.queues import ModelQueue

MIN_RUNS = 4
"""Runs of its own length that a request may wait for, however long they take: the caller of a slow model expects it."""


@dataclass(frozen=True)
class Limits:
    """How much may wait for an engine; 0: no limit.

    requests        of all models
    model_requests  of one model
    size_bytes      inputs of all waiting requests
    wait_s          seconds that a request should wait, or the time of MIN_RUNS runs if that is longer
    """

    requests: int = 1000
    model_requests: int = 500
    size_bytes: int = 2**28
    wait_s: float = 1.5

    def check(
        self, batch: Batch, tasks: Sequence[Task], queue: ModelQueue | None, waiting: int, waiting_bytes: int
    ) -> None:
        """Raises Unavailable or ResourceExhausted when the queue has no room for these tasks.

        batch                   the empty batch that the tasks would start
        queue                   of their model; None when nothing waits for it
        waiting, waiting_bytes  requests of all models, and the size of their inputs
        """
        size_bytes = sum(task.size_bytes for task in tasks)
        # A request that finds the queue empty gets in, however large: --max_request_bytes has bounded it already.
        if self.size_bytes and waiting and waiting_bytes + size_bytes > self.size_bytes:
            raise ResourceExhausted(
                f"the queue is full ({waiting_bytes} bytes of inputs; got {size_bytes} more, "
                f"at most {self.size_bytes} may wait); retry later"
            )
        if self.requests and waiting >= self.requests:
            raise Unavailable(f"the queue is full ({waiting} requests); retry later")
        if queue is None or not queue.waiting:
            return
        if self.model_requests and queue.waiting >= self.model_requests:
            raise Unavailable(f"the queue of {batch.servable.name} is full ({queue.waiting} requests); retry later")
        if batch.batching is None:
            return
        last, count = queue.open_batches.get(batch.merge_key), queue.batch_counts.get(batch.merge_key, 0)
        more = len(tasks) - (last is not None and last.has_room(tasks[0].rows))
        if count and count + more > batch.batching.max_enqueued_batches:
            raise Unavailable(
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{count} batches enqueued and max_enqueued_batches is {batch.batching.max_enqueued_batches}"
            )


def queue_limits(options: SimpleNamespace) -> Limits:
    """The limits that the flags set."""
    return Limits(
        options.max_queued_requests,
        options.max_queued_requests_per_model,
        options.max_queued_bytes,
        options.max_queued_seconds,
    )
