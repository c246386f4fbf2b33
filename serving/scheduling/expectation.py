"""How long requests should run: what has been measured says it, and what is refused for it is doubted a little."""

from __future__ import annotations

from collections.abc import Sequence

from ladle.serving.scheduling.batch import Batch, Task
from ladle.serving.servables.batching_parameters import Batching
from ladle.serving.servables.latency import Latency

_DOUBT = 0.97  # factor of an expected time for which a request was refused: refusals alone would never correct it
_PER_ROW = -1  # key of merged runs in `Latency.wall`; others have the number of bits of their size


class Running:
    """The batches that threads run or have taken, and when each should begin and end."""

    def __init__(self) -> None:
        self._times: dict[Batch, tuple[float, float]] = {}

    def begin(self, batches: Sequence[Batch], now: float) -> None:
        """A thread takes these batches, which it runs one after the other."""
        for batch in batches:
            begins, now = now, now + sum([task.expected_s for task in batch.tasks])
            self._times[batch] = begins, now

    def end(self, batch: Batch) -> None:
        """A batch has run."""
        self._times.pop(batch, None)

    def left_s(self, now: float) -> float:
        """Seconds that all of them should still run, on all threads together."""
        return sum([max(0.0, ends - max(now, begins)) for begins, ends in self._times.values()])


def expected_s(latency: Latency, batching: Batching | None, task: Task) -> float:
    """Seconds that a task should run; 0 before one like it has run."""
    if batching is not None:
        return task.rows * latency.wall.get(_PER_ROW, 0.0)
    power = task.size.bit_length()
    return latency.wall.get(power) or latency.seconds.get(power, 0.0)


def record(batch: Batch, seconds: float) -> None:
    """Takes down how long a batch has run on a thread."""
    latency = batch.servable.latencies[batch.call.signature]
    if batch.batching is None:
        latency.record_wall(batch.tasks[0].size.bit_length(), seconds)
    else:
        latency.record_wall(_PER_ROW, seconds / max(1, batch.rows))


def doubt(latency: Latency, batching: Batching | None, task: Task) -> None:
    """Lowers a little what made a request too late, so that one like it runs again some day and is measured."""
    key, share = (task.size.bit_length(), 1) if batching is None else (_PER_ROW, task.rows)
    latency.wall[key] = _DOUBT * (latency.wall.get(key) or task.expected_s / share)
