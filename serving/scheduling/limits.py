"""What may wait for an engine: a server with too much to do says so at once, rather than grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

from ladle.serving.errors import ResourceExhausted, Unavailable
from ladle.serving.scheduling.batch import Batch, Lane, Task


@dataclass(frozen=True)
class Limits:
    """What may wait for an engine; 0: no limit.

    requests  of all models    model_requests  of one model    size_bytes  inputs of all that wait
    """

    requests: int = 1000
    model_requests: int = 500
    size_bytes: int = 2**28

    def check(self, like: Batch, tasks: Sequence[Task], lane: Lane | None, waiting: int, waiting_bytes: int) -> None:
        """Raises Unavailable or ResourceExhausted when there is no room for these tasks.

        like                    the batch that they would make    lane  what waits for their model
        waiting, waiting_bytes  requests of all models, and their inputs
        """
        size_bytes = sum(task.size_bytes for task in tasks)
        if self.size_bytes and waiting and waiting_bytes + size_bytes > self.size_bytes:
            raise ResourceExhausted(
                f"the inputs of waiting requests take {waiting_bytes} bytes, with this one they would take more "
                f"than {self.size_bytes}; try again later"
            )
        if self.requests and waiting >= self.requests:
            raise Unavailable(f"{waiting} requests wait for an engine, as many as may; try again later")
        if lane is None or not lane.waiting:
            return
        if self.model_requests and lane.waiting >= self.model_requests:
            name = like.call.servable.name
            raise Unavailable(f"{lane.waiting} requests wait for {name}, as many as may; try again later")
        if like.batching is None:
            return
        growing, count = lane.growing.get(like.kind), lane.counts.get(like.kind, 0)
        more = len(tasks) - (growing is not None and growing.has_room(tasks[0].rows))
        if count and count + more > like.batching.max_enqueued_batches:
            raise Unavailable(
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{count} batches enqueued and max_enqueued_batches is {like.batching.max_enqueued_batches}"
            )


def queue_limits(options: SimpleNamespace) -> Limits:
    """What may wait, by the flags."""
    return Limits(options.max_queued_requests, options.max_queued_requests_per_model, options.max_queued_bytes)
