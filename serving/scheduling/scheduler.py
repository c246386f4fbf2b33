"""When and where a request runs: at once on the event loop, in a thread, merged with others, or not at all.

All of its state belongs to the event loop, so there are no locks; threads only run batches. Requests for a model run
in order of arrival; of the models that wait, the one that has had the least engine time comes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ladle.serving.errors import DeadlineExceeded, FailedPrecondition, ResourceExhausted
from ladle.serving.runtime.cores import cpu_count, note_quick, step_back
from ladle.serving.scheduling import batching
from ladle.serving.scheduling.batch import Batch, Call, Lane, Outputs, Task, Tensors, bytes_of, rows_of, run_merged
from ladle.serving.scheduling.limits import Limits
from ladle.serving.scheduling.tick import LATE, LATE_IN_QUEUE, Turn
from ladle.serving.servables.batching_parameters import Batching
from ladle.serving.servables.latency import QUICK_S
from ladle.serving.telemetry.metrics import Metrics

_TRY_AGAIN = 32  # requests that run alone, merging not having paid, before it is tried once more
MERGED_FROM_S = 200e-6
"""Runs that take less are merged with those that arrive in the same turn of the event loop, and wait for no others."""


class Scheduler:
    """Runs requests on their servables.

    threads  batches that run at once beside the event loop; as many as cores, at least 2, if not given
    """

    def __init__(
        self, threads: int | None = None, limits: Limits | None = None, metrics: Metrics | None = None
    ) -> None:
        self._free = threads or max(2, cpu_count())
        self._pool = ThreadPoolExecutor(self._free, thread_name_prefix="run", initializer=step_back)
        self._limits = limits or Limits()
        self._metrics = metrics
        self._lanes: dict[str, Lane] = {}
        self._waiting = 0
        self._waiting_bytes = 0
        self._served_s = 0.0  # spent_s of the lane served last
        self._will_dispatch = False
        self._turn = Turn(self._run_turn)

    @property
    def waiting(self) -> int:
        """Requests that wait for an engine."""
        return self._waiting

    async def run(self, call: Call, inputs: Tensors, deadline: float | None = None) -> Outputs:
        """The outputs by alias.

        deadline  `time.monotonic()` seconds: a request that still waits then is never run

        DeadlineExceeded then, but ResourceExhausted where requests are merged; Unavailable or ResourceExhausted when
        too much waits already; InvalidArgument for inputs that cannot be merged; and what the graph raises.
        """
        if deadline is not None and time.monotonic() >= deadline:
            raise DeadlineExceeded(LATE)
        rows, size, kind = call.shape or call.shape_of(inputs)
        parameters = call.servable.batching if rows else None  # merging is off, or there is nothing to merge
        expected = call.servable.paces[call.signature].expected_s(size)
        is_whole = parameters is None or rows <= parameters.limit
        if is_whole and expected is not None and expected <= (MERGED_FROM_S if parameters else QUICK_S):
            if self._turn.is_alone():
                return self._run_here(call, parameters, inputs, rows, size)
            if parameters is None:
                run = partial(self._run_here, call, None, inputs, rows, size)
                return await self._turn.wait(call.servable, run, expected, deadline)
            return await self._turn.join(call, parameters, kind, inputs, rows, expected, deadline)
        if parameters is None:
            return await self._wait(Batch(call, None, None), [inputs], [rows_of(inputs)], deadline)
        parts = [inputs]
        if parameters.enable_large_batch_splitting:
            lane = self._lanes.get(call.servable.name)
            growing = lane.growing.get(kind) if lane is not None else None
            parts = batching.cut(inputs, rows, parameters.limit - growing.rows if growing else 0, parameters.limit)
        return await self._wait(Batch(call, parameters, kind), parts, [rows_of(part) for part in parts], deadline)

    def _run_here(self, call: Call, parameters: Batching | None, inputs: Tensors, rows: int, size: int) -> Outputs:
        start = time.perf_counter()
        note_quick(start)
        call.servable.enter()
        try:
            if parameters is None:
                return call.servable.run(call.signature, inputs, call.outputs, size)
            return run_merged(call, parameters, [inputs], [rows])[0]
        finally:
            call.servable.leave()
            if self._metrics is not None:
                self._metrics.runtime(
                    call.servable.name, call.signature, time.perf_counter() - start, rows or rows_of(inputs), call.api
                )
                if parameters is not None:
                    self._metrics.batch(call.servable.name, call.signature, rows, parameters.padded(rows) - rows, 0.0)

    def _run_turn(self, batch: Batch) -> None:
        note_quick(time.perf_counter())
        self._note(batch)
        self._finish(batch, *batch.run())

    # Waiting

    async def _wait(
        self, like: Batch, parts: Sequence[Tensors], rows: Sequence[int], deadline: float | None
    ) -> Outputs:
        loop = asyncio.get_running_loop()
        tasks = [
            Task(part, n, bytes_of(part), loop.create_future(), deadline) for part, n in zip(parts, rows, strict=True)
        ]
        lane = self._lanes.get(like.call.servable.name)
        self._limits.check(like, tasks, lane, self._waiting, self._waiting_bytes)
        for task in tasks:
            self._join(task, like)
            if deadline is not None:
                task.timer = loop.call_later(deadline - time.monotonic(), self._expire, task)
        if not self._will_dispatch:  # once all that has arrived by now has been read, so that it can be merged
            self._will_dispatch = True
            loop.call_soon(self._dispatch)
        try:
            if len(tasks) == 1:
                return await tasks[0].future
            outputs = await asyncio.gather(*(task.future for task in tasks))
        finally:
            for task in tasks:
                self._leave(task)
        try:
            return batching.join(outputs)
        except ValueError:
            raise FailedPrecondition("the parts of the split request have outputs of different inner sizes") from None

    def _join(self, task: Task, like: Batch) -> None:
        """Puts the task into the batch of its kind that waits, or into a new one."""
        name = like.call.servable.name
        like.call.servable.enter()
        lane = self._lanes.setdefault(name, Lane())
        if not lane.waiting:
            lane.spent_s = max(lane.spent_s, self._served_s)
        batch = lane.growing.get(like.kind) if like.batching is not None else None
        if batch is None or not batch.has_room(task.rows):
            batch = Batch(like.call, like.batching, like.kind)
            lane.batches.append(batch)
            if like.batching is not None:
                lane.growing[like.kind] = batch
                lane.counts[like.kind] = lane.counts.get(like.kind, 0) + 1
        batch.tasks.append(task)
        batch.rows += task.rows
        task.batch = batch
        self._count(batch, [task], 1)

    def _count(self, batch: Batch, tasks: Sequence[Task], sign: int) -> None:
        name = batch.call.servable.name
        self._lanes[name].waiting += sign * len(tasks)
        self._waiting += sign * len(tasks)
        self._waiting_bytes += sign * sum(task.size_bytes for task in tasks)
        if self._metrics is not None:
            self._metrics.queued(name, sign * len(tasks))

    def _expire(self, task: Task) -> None:
        """The deadline of a task has come."""
        if not task.future.done():
            merges = task.batch is not None and task.batch.is_waiting and task.batch.batching is not None
            task.future.set_exception(ResourceExhausted(LATE_IN_QUEUE) if merges else DeadlineExceeded(LATE))
            self._leave(task)

    def _leave(self, task: Task) -> None:
        """Nobody waits for the task any more: it leaves its queue; if it runs already, it ends on its own."""
        if task.timer is not None:
            task.timer.cancel()
        if not task.future.done():
            task.future.cancel()
        elif not task.future.cancelled():
            task.future.exception()  # seen: of the parts of a request only one error is raised
        batch = task.batch
        if batch is not None and batch.is_waiting and task in batch.tasks:
            batch.tasks.remove(task)
            batch.rows -= task.rows
            self._count(batch, [task], -1)
            if not batch.tasks:
                self._close(batch)
                with contextlib.suppress(ValueError):  # it was about to start
                    self._lanes[batch.call.servable.name].batches.remove(batch)
            batch.call.servable.leave()

    def _close(self, batch: Batch) -> None:
        """The batch waits no longer: it starts, or is empty."""
        batch.is_waiting = False
        if batch.batching is None:
            return
        lane = self._lanes[batch.call.servable.name]
        if lane.growing.get(batch.kind) is batch:
            del lane.growing[batch.kind]
        lane.counts[batch.kind] -= 1
        if not lane.counts[batch.kind]:
            del lane.counts[batch.kind]

    # Running

    def _dispatch(self) -> None:
        """Starts what can start: quick batches here, the others where a thread is free."""
        self._will_dispatch = False
        lanes = list(self._lanes.values())
        for lane in lanes:
            while lane.batches and lane.batches[0].is_quick():
                batch = lane.batches.popleft()
                if self._start(batch):
                    self._finish(batch, *batch.run())
        while self._free and (waiting := [lane for lane in lanes if lane.batches]):
            lane = min(waiting, key=lambda lane: lane.spent_s)
            if (chosen := self._next(lane)) is not None:
                self._served_s = lane.spent_s
                self._free -= 1
                self._pool.submit(self._work, chosen, asyncio.get_running_loop())

    def _next(self, lane: Lane) -> Batch | None:
        """What the lane runs next: its first batch, or a single request of it where merging has not paid."""
        batch = lane.batches[0]
        self._expire_late(batch)
        if not batch.is_waiting:
            return None
        if not batch.gains():
            lane.alone += 1
            if lane.alone % _TRY_AGAIN:
                first = batch.take_first()
                self._count(batch, first.tasks, -1)
                self._note(first)
                return first
        lane.batches.popleft()
        return batch if self._start(batch) else None

    def _start(self, batch: Batch) -> bool:
        """Takes the batch out of the queue; False when nobody waits for it any more."""
        self._expire_late(batch)
        if not batch.is_waiting:
            return False
        self._count(batch, batch.tasks, -1)
        self._close(batch)
        self._note(batch)
        return True

    def _expire_late(self, batch: Batch) -> None:
        now = time.monotonic()
        for task in [task for task in batch.tasks if task.deadline is not None and now >= task.deadline]:
            self._expire(task)

    def _note(self, batch: Batch) -> None:
        now = time.monotonic()
        if self._metrics is not None and batch.batching is not None:
            waited, sizes = [now - task.arrived for task in batch.tasks], [task.rows for task in batch.tasks]
            padding = batch.batching.padded(batch.rows) - batch.rows
            self._metrics.batch(batch.call.servable.name, batch.call.signature, batch.rows, padding, waited, sizes)

    def _work(self, batch: Batch, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread."""
        results, seconds = batch.run()
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(self._end_work, batch, results, seconds)

    def _end_work(self, batch: Batch, results: Sequence[Outputs | Exception], seconds: float) -> None:
        self._free += 1
        self._lanes[batch.call.servable.name].spent_s += seconds
        self._dispatch()  # first, so that the thread is not idle while answers are written
        self._finish(batch, results, seconds)

    def _finish(self, batch: Batch, results: Sequence[Outputs | Exception], seconds: float) -> None:
        call = batch.call
        if self._metrics is not None:
            now = time.monotonic()
            spent = [now - task.arrived for task in batch.tasks]
            self._metrics.runtime(call.servable.name, call.signature, seconds, batch.rows, call.api, spent)
        for task, result in zip(batch.tasks, results, strict=True):
            if not task.future.done():
                if isinstance(result, Exception):
                    task.future.set_exception(result)
                else:
                    task.future.set_result(result)
            task.batch = None  # which holds the task: a version that has answered goes without the garbage collector
            call.servable.leave()
