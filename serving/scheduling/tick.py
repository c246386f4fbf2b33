"""Quick requests that arrive in one turn of the event loop run together at its end.

While they are read, more may come: the turn ends when the event loop has looked once more.
To read, to run and to write are each much code. In the order read, read, run, run, write, write it is still in the
processor's cache the second time, and a request takes a quarter less time than one after the other. Where batching is
on, those of a kind become one run. A request that comes alone runs at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable

from ladle.serving.errors import DeadlineExceeded, ResourceExhausted
from ladle.serving.runtime.eager_task import Waiter, wake
from ladle.serving.scheduling.batch import Batch, Call, Outputs, Task, Tensors
from ladle.serving.servables.batching_parameters import Batching
from ladle.serving.servables.servable import Servable

LATE = "the request was not answered in time"
LATE_IN_QUEUE = "Run() timeout exceeded while waiting in batching queue"
_MOST_S = 1e-3
"""Runs that should take as long start before the turn has ended: the first answers are not held up by the last."""

Single = tuple[Servable, Callable[[], Outputs], Waiter, float | None]


class Turn:
    """What has arrived in the present turn of the event loop.

    run  runs a batch on the event loop, and lets each task of it know
    """

    def __init__(self, run: Callable[[Batch], None]) -> None:
        self._run = run
        self._arrived = 0
        self._has_looked = False
        self._arrived_last = 0  # in the last turn that had quick requests
        self._will_end = False
        self._waiters: list[Waiter] = []
        self._singles: list[Single] = []
        self._batches: list[Batch] = []
        self._growing: dict[Hashable, Batch] = {}
        self._expected_s = 0.0

    def is_alone(self) -> bool:
        """Counts a quick request; whether it should run at once, since lately they have come one by one."""
        self._arrived += 1
        if not self._will_end:
            self._will_end = True
            asyncio.get_running_loop().call_soon(self._end)
        return self._arrived_last < 2

    def wait(
        self, servable: Servable, run: Callable[[], Outputs], expected_s: float, deadline: float | None
    ) -> asyncio.Future[Outputs]:
        """What `run` gives, which should take so many seconds; DeadlineExceeded when it cannot start in time."""
        waiter = self._waiter()
        servable.enter()
        self._singles.append((servable, run, waiter, deadline))
        self._expect(expected_s)
        return waiter

    def join(
        self,
        call: Call,
        batching: Batching,
        kind: Hashable,
        inputs: Tensors,
        rows: int,
        expected_s: float,
        deadline: float | None,
    ) -> asyncio.Future[Outputs]:
        """The outputs of a run merged with others of its kind; ResourceExhausted when it cannot start in time."""
        waiter = self._waiter()
        batch = self._growing.get(kind)
        if batch is None or not batch.has_room(rows):
            batch = self._growing[kind] = Batch(call, batching, kind)
            self._batches.append(batch)
        call.servable.enter()
        arrived = batch.tasks[0].arrived if batch.tasks else time.monotonic()
        batch.tasks.append(Task(inputs, rows, 0, waiter, deadline, batch, arrived))
        batch.rows += rows
        self._expect(expected_s)
        return waiter

    def _waiter(self) -> Waiter:
        waiter = Waiter(loop=asyncio.get_running_loop())
        self._waiters.append(waiter)
        return waiter

    def _expect(self, seconds: float) -> None:
        self._expected_s += seconds
        if self._expected_s >= _MOST_S:
            self._run_all()

    def _end(self) -> None:
        if self._waiters and not self._has_looked:
            self._has_looked = True
            asyncio.get_running_loop().call_soon(self._end)
            return
        self._arrived_last, self._arrived, self._has_looked, self._will_end = self._arrived, 0, False, False
        self._run_all()

    def _run_all(self) -> None:
        waiters, self._waiters, singles, self._singles = self._waiters, [], self._singles, []
        batches, self._batches, self._growing, self._expected_s = self._batches, [], {}, 0.0
        for single in singles:
            _run_single(*single)
        for batch in batches:
            self._run_batch(batch)
        wake(waiters)

    def _run_batch(self, batch: Batch) -> None:
        try:
            if _drop_late(batch):
                self._run(batch)
        except Exception as error:  # no engine's, which the batch gives its requests, but one of our own making
            for task in batch.tasks:
                if not task.future.done():
                    task.future.set_exception(_raisable(error))
                    batch.call.servable.leave()


def _run_single(servable: Servable, run: Callable[[], Outputs], waiter: Waiter, deadline: float | None) -> None:
    try:
        if waiter.done():  # the caller has left
            pass
        elif deadline is not None and time.monotonic() >= deadline:
            waiter.set_exception(DeadlineExceeded(LATE))
        else:
            waiter.set_result(run())
    except Exception as error:
        waiter.set_exception(_raisable(error))
    finally:
        servable.leave()


def _raisable(error: Exception) -> Exception:
    """What a future takes: no StopIteration."""
    return RuntimeError(repr(error)) if isinstance(error, StopIteration) else error


def _drop_late(batch: Batch) -> bool:
    """Lets go of tasks whose callers have left, or whose time is over; whether any is left."""
    now = time.monotonic()
    for task in list(batch.tasks):
        if task.deadline is not None and now >= task.deadline and not task.future.done():
            task.future.set_exception(ResourceExhausted(LATE_IN_QUEUE))
        if task.future.done():
            batch.tasks.remove(task)
            batch.rows -= task.rows
            batch.call.servable.leave()
    return bool(batch.tasks)
