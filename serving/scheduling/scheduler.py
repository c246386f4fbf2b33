"""Decides when and where a request runs: at once on the event loop, in a thread, merged with others, or not at all.

All state belongs to the event loop, so there are no locks; threads only run batches. The requests for one model begin
in order of arrival, but for short ones of which a thread takes several. Between models the queue is fair: the one that
has had the least engine time runs next.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import cast

from ladle.serving.errors import DeadlineExceeded, FailedPrecondition, ResourceExhausted, ServingError, Unavailable
from ladle.serving.runtime.cores import loop_activity, lower_priority, run_threads
from ladle.serving.runtime.stopping import stoppable
from ladle.serving.scheduling.batch import (
    LATE,
    Batch,
    Call,
    Outputs,
    Task,
    Tensors,
    bytes_of,
    cut,
    join,
    rows_of,
    run_merged,
    summarize,
)
from ladle.serving.scheduling.expectation import Running, doubt, expected_s, record
from ladle.serving.scheduling.limits import MIN_RUNS, Limits, ModelQueue
from ladle.serving.scheduling.refusals import Refusals
from ladle.serving.scheduling.tick import LATE_IN_QUEUE, Tick
from ladle.serving.servables.batching_parameters import Batching
from ladle.serving.servables.latency import QUICK_S
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry.metrics import Metrics
from ladle.serving.telemetry.observation import Observation

_RETRY_MERGING = 32  # requests that run alone, because merging had not paid off, before merging is tried again
MERGED_FROM_S = 200e-6
"""Runs that take less merge only with requests of the same tick; longer ones wait for a thread, and merge there."""
SHORT_S = 0.1
"""A run that should take at most this long need not wait for longer ones: some threads are kept for such runs."""
TOGETHER_S = 2e-3
"""A thread takes runs from a long queue that should take this long together. A busy event loop would otherwise let the
thread wait for as long after each short run."""
_MAX_SCANNED = 32  # batches at the head of a queue among which a short one is looked for
_WAIT_MARGIN = 1.5  # times the expected wait must fit a deadline: what is admitted at the brink is answered too late


class Scheduler:
    """Runs requests on their servables.

    threads  batches that run at once beside the event loop; default: the number of cores, at least 2. When all of them
             are busy with long runs, a quarter as many more (at least one) run short ones
    """

    def __init__(
        self, threads: int | None = None, limits: Limits | None = None, metrics: Metrics | None = None
    ) -> None:
        self._threads, self._spare_threads = run_threads(threads)
        self._idle_threads = self._threads
        self._long_runs = 0
        self._pool = ThreadPoolExecutor(
            self._threads + self._spare_threads, thread_name_prefix="run", initializer=lower_priority
        )
        self._limits = limits or Limits()
        self._metrics = metrics
        self._queues: dict[str, ModelQueue] = {}
        self._waiting = 0
        self._waiting_bytes = 0
        self._running = Running()
        self._taken_together: list[list[Batch]] = []  # what is left of what threads took from long queues
        self._virtual_time_s = 0.0  # engine_s of the model that ran last
        self._dispatch_is_scheduled = False
        self._tick = Tick(self._run_on_loop)
        self._refusals = Refusals()

    @property
    def waiting(self) -> int:
        """Requests that wait for an engine."""
        return self._waiting

    async def run(
        self,
        servable: Servable,
        call: Call,
        inputs: Tensors,
        deadline: float | None = None,
        observation: Observation | None = None,
    ) -> Outputs:
        """The outputs by alias.

        deadline     `time.monotonic()` seconds: a request that still waits then never runs
        observation  takes down when the request joins the queue and when it runs

        DeadlineExceeded then, or ResourceExhausted where requests are merged, as in TensorFlow Serving; Unavailable or
        ResourceExhausted when the queue is full or too long for the deadline; InvalidArgument for inputs that cannot be
        batched; and what the graph raises.
        """
        if deadline is not None and time.monotonic() >= deadline:
            servable.usage.failed += 1
            raise DeadlineExceeded(LATE)
        if observation is not None:
            observation.join_queue()
        rows, size, merge_key = call.summary or summarize(servable, call, inputs)
        batching = servable.batching if merge_key is not None else None
        latency = servable.latencies[call.signature]
        expected = latency.on_loop.get(size.bit_length())
        fits = batching is None or rows <= batching.limit
        # A thread costs two switches, about 50 µs on a busy machine: quick runs stay on the event loop.
        if fits and expected is not None and expected <= (MERGED_FROM_S if batching else QUICK_S):
            if self._tick.should_run_now():
                return self._run_now(servable, call, batching, inputs, rows, size, observation)
            if batching is None:
                run = partial(self._run_now, servable, call, None, inputs, rows, size, observation)
                return await self._tick.add(servable, run, expected, deadline)
            return await self._tick.add_merged(
                servable, call, batching, merge_key, inputs, rows, expected, deadline, observation
            )
        batch = Batch(servable, call, batching, merge_key)
        if batching is None or not batching.enable_large_batch_splitting:
            return await self._queue(batch, [inputs], deadline, observation)
        queue = self._queues.get(servable.name)
        last = queue.open_batches.get(merge_key) if queue is not None else None
        # The last batch may have been begun under other parameters, and be larger than these allow.
        parts = cut(inputs, rows, max(0, batching.limit - last.rows) if last else 0, batching.limit)
        return await self._queue(batch, parts, deadline, observation)

    # On the event loop

    def _run_now(
        self,
        servable: Servable,
        call: Call,
        batching: Batching | None,
        inputs: Tensors,
        rows: int,
        size: int,
        observation: Observation | None,
    ) -> Outputs:
        # enter() and leave() stand here in place: every small request runs this.
        start = loop_activity.quick_at = time.perf_counter()
        servable.in_flight += 1
        outputs: Outputs | None = None
        try:
            if batching is None:
                outputs = servable.run(call.signature, inputs, call.outputs, size)
            else:
                outputs = run_merged(servable, call, batching, [inputs], [rows])[0]
            return outputs
        finally:
            servable.in_flight -= 1
            if servable.on_idle is not None:
                servable.notify_if_idle()
            if observation is not None:
                observation.run(start, time.perf_counter(), rows)
            seconds = time.perf_counter() - start
            usage = servable.usage
            usage.last = start
            if outputs is None:
                usage.failed += 1
                usage.failed_s += seconds
            else:
                usage.requests += 1
                usage.request_s += seconds
                usage.run_s += seconds
                usage.runs += 1
                usage.rows += rows
            if self._metrics is not None:
                self._metrics.runtime(servable.name, call.signature, seconds, rows, call.api)
                if batching is not None:
                    self._metrics.batch(servable.name, call.signature, rows, batching.padded(rows) - rows, 0.0)

    def _run_on_loop(self, batch: Batch) -> None:
        loop_activity.quick_at = time.perf_counter()
        self._record_batch(batch)
        batch.deliver(*batch.run(), self._metrics)

    # Waiting

    async def _queue(
        self, batch: Batch, parts: Sequence[Tensors], deadline: float | None, observation: Observation | None
    ) -> Outputs:
        """Queues the parts of a request and waits for their outputs; `batch` is the empty batch they would start."""
        loop = asyncio.get_running_loop()
        tasks = [
            Task(part, rows_of(part), bytes_of(part), loop.create_future(), deadline, observation=observation)
            for part in parts
        ]
        queue = self._queues.get(batch.servable.name)
        try:
            self._limits.check(batch, tasks, queue, self._waiting, self._waiting_bytes)
            self._check_wait(batch, tasks, queue, deadline)
        except ServingError as error:
            batch.servable.usage.failed += 1
            if isinstance(error, DeadlineExceeded | ResourceExhausted | Unavailable):
                await self._refusals.take_turn(sum(task.size_bytes for task in tasks), deadline)
            raise
        for task in tasks:
            self._enqueue(task, batch)
            if deadline is not None:
                task.timer = loop.call_later(deadline - time.monotonic(), self._expire, task)
        # Not at once: requests that have arrived already are parsed first, so that they can merge with this one.
        if not self._dispatch_is_scheduled:
            self._dispatch_is_scheduled = True
            loop.call_soon(self._dispatch)
        try:
            if len(tasks) == 1:
                return await tasks[0].future
            outputs = await asyncio.gather(*(task.future for task in tasks))
        finally:
            for task in tasks:
                self._abandon(task)
            # An error refers to this frame. If the frame referred to the error, by way of the tasks' futures, both and
            # the servable would stay in memory until the next garbage collection.
            del task, tasks, batch
        try:
            return join(outputs)
        except ValueError:
            raise FailedPrecondition("the parts of the split request have outputs of different inner sizes") from None

    def _check_wait(
        self, batch: Batch, tasks: Sequence[Task], queue: ModelQueue | None, deadline: float | None
    ) -> None:
        """Refuses at once what would be answered too late: DeadlineExceeded, or Unavailable because of the queue."""
        latency = batch.servable.latencies[batch.call.signature]
        for task in tasks:
            task.size = latency.size_of(task.inputs)
            task.expected_s = expected_s(latency, batch.batching, task)
        now = time.monotonic()
        left = math.inf if deadline is None else deadline - now
        run_s = max(task.expected_s for task in tasks)
        if run_s > left:
            doubt(latency, batch.batching, tasks[0])
            raise DeadlineExceeded(f"{LATE}: a run takes about {run_s:.2g} s, and {max(0.0, left):.2g} s are left")
        wait_s = self._expected_wait_s(queue, now)
        if self._limits.wait_s and wait_s > max(self._limits.wait_s, MIN_RUNS * run_s):
            raise Unavailable(f"the queue of {batch.servable.name} takes about {wait_s:.2g} s; retry later")
        if _WAIT_MARGIN * wait_s + run_s > left:
            raise Unavailable(
                f"the queue of {batch.servable.name} takes about {wait_s:.2g} s, too long for a deadline in "
                f"{left:.2g} s; retry later"
            )

    def _expected_wait_s(self, queue: ModelQueue | None, now: float) -> float:
        """Seconds that a request should wait behind those in its model's queue and its turns with other models."""
        if self._idle_threads:
            return 0.0
        own_s = queue.waiting_s if queue is not None else 0.0
        others_s = sum([min(other.waiting_s, own_s) for other in self._queues.values() if other is not queue])
        return (own_s + others_s + self._running.left_s(now)) / self._threads

    def _enqueue(self, task: Task, new: Batch) -> None:
        """Puts the task into the open batch of its merge key, or else into a batch like `new`."""
        servable = new.servable
        servable.enter()
        queue = self._queues.setdefault(servable.name, ModelQueue())
        if not queue.waiting:
            # A model that was idle has not saved up engine time: it starts level with the one that ran last.
            # Without this, it would keep the engine until it had caught up with hours of others' use.
            queue.engine_s = max(queue.engine_s, self._virtual_time_s)
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
        self._count(batch, [task], 1)

    def _count(self, batch: Batch, tasks: Sequence[Task], sign: int) -> None:
        name = batch.servable.name
        queue = self._queues[name]
        queue.waiting += sign * len(tasks)
        queue.waiting_s += sign * sum([task.expected_s for task in tasks])
        if not queue.waiting:
            queue.waiting_s = 0.0  # without what rounding has left
        self._waiting += sign * len(tasks)
        self._waiting_bytes += sign * sum(task.size_bytes for task in tasks)
        if self._metrics is not None:
            self._metrics.queued(name, sign * len(tasks))

    def _expire(self, task: Task) -> None:
        """Fails a task whose deadline has passed, and takes it out of its queue."""
        if not task.future.done():
            merges = task.batch is not None and task.batch.is_waiting and task.batch.batching is not None
            task.future.set_exception(ResourceExhausted(LATE_IN_QUEUE) if merges else DeadlineExceeded(LATE))
            if task.batch is not None:
                usage = task.batch.servable.usage
                usage.failed += 1
                usage.failed_s += time.monotonic() - task.arrived
            self._abandon(task)

    def _abandon(self, task: Task) -> None:
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
            self._count(batch, [task], -1)
            if not batch.tasks:
                self._close(batch)
                with contextlib.suppress(ValueError):  # `_dispatch` has taken it out already
                    self._queues[batch.servable.name].batches.remove(batch)
            batch.servable.leave()
        elif batch is not None and not batch.is_waiting:
            batch.stop_if_abandoned()

    def _close(self, batch: Batch) -> None:
        """Marks a batch that starts or is empty: no task may join it any more."""
        batch.is_waiting = False
        if batch.batching is None:
            return
        queue = self._queues[batch.servable.name]
        if queue.open_batches.get(batch.merge_key) is batch:
            del queue.open_batches[batch.merge_key]
        queue.batch_counts[batch.merge_key] -= 1
        if not queue.batch_counts[batch.merge_key]:
            del queue.batch_counts[batch.merge_key]

    # Running

    def _dispatch(self) -> None:
        """Starts what can start: quick batches on the event loop, the others where a thread is idle."""
        self._dispatch_is_scheduled = False
        queues = list(self._queues.values())
        for queue in queues:
            while queue.batches and queue.batches[0].is_quick():
                batch = queue.batches.popleft()
                if self._start(batch):
                    batch.deliver(*batch.run(), self._metrics)
        while self._idle_threads and (waiting := [queue for queue in queues if queue.batches]):
            queue = min(waiting, key=lambda queue: queue.engine_s)
            if (chosen := self._next(queue)) is not None:
                self._virtual_time_s = queue.engine_s
                self._idle_threads -= 1
                expected = chosen.expected_s()
                chosen.is_long = expected is not None and expected > SHORT_S
                self._long_runs += chosen.is_long
                batches = [chosen]
                if expected is not None and expected < TOGETHER_S and len(queue.batches) > self._threads:
                    batches += self._further(queue, TOGETHER_S - expected)
                    self._taken_together = [others for others in self._taken_together if others] + [batches]
                self._submit(batches)
        # One of the runs that a thread has taken together may last longer than expected: the next ones need not wait.
        while self._idle_threads and self._taken_together:
            try:
                batches = [self._taken_together[0].pop()]
            except IndexError:  # that thread has begun its last one
                del self._taken_together[0]
                continue
            self._idle_threads -= 1
            self._submit(batches)
        # Long runs may take seconds each. A short one that waited for them would answer late for no gain.
        while self._spare_threads and self._long_runs == self._threads:
            short = self._next_short(queue for queue in queues if queue.batches)
            if short is None:
                break
            short.is_spare = True
            self._spare_threads -= 1
            self._submit([short], is_spare=True)

    def _submit(self, batches: list[Batch], is_spare: bool = False) -> None:
        """Gives batches to a thread. One on a spare thread is short, and holds up nobody."""
        if not is_spare:
            self._running.begin(batches, time.monotonic())
        self._pool.submit(self._run_in_thread, batches, is_spare, asyncio.get_running_loop())

    def _further(self, queue: ModelQueue, seconds: float) -> list[Batch]:
        """Takes this thread's share of the batches that wait, as far as they should take `seconds` together."""
        batches: list[Batch] = []
        for _ in range(len(queue.batches) // self._threads):
            expected = queue.batches[0].expected_s()
            if expected is None or expected > seconds:
                break
            seconds -= expected
            if (batch := self._next(queue)) is not None:
                batches.append(batch)
        return batches

    def _next_short(self, waiting: Iterable[ModelQueue]) -> Batch | None:
        """Takes a batch that should be short out of its queue, also from behind longer ones; None if there is none."""
        for queue in sorted(waiting, key=lambda queue: queue.engine_s):
            for batch in list(islice(queue.batches, _MAX_SCANNED)):
                expected = batch.expected_s()
                if expected is not None and expected <= SHORT_S:
                    queue.batches.remove(batch)
                    if self._start(batch):
                        return batch
        return None

    def _next(self, queue: ModelQueue) -> Batch | None:
        """The queue's first batch, or only its first request where merging has not paid off; None if it expired."""
        batch = queue.batches[0]
        self._expire_late(batch)
        if not batch.is_waiting:
            return None
        if not batch.pays_off():
            queue.unmerged += 1
            # A merged run now and then keeps the measured times fresh: other load may have slowed the first ones.
            if queue.unmerged % _RETRY_MERGING:
                first = batch.take_first()
                self._count(batch, first.tasks, -1)
                self._record_batch(first)
                return first
        queue.batches.popleft()
        return batch if self._start(batch) else None

    def _start(self, batch: Batch) -> bool:
        """Takes the batch out of the queue; False when all of its tasks have left."""
        self._expire_late(batch)
        if not batch.is_waiting:
            return False
        self._count(batch, batch.tasks, -1)
        self._close(batch)
        self._record_batch(batch)
        return True

    def _expire_late(self, batch: Batch) -> None:
        """Fails the tasks whose deadline has passed, or will have passed when the run ends."""
        # A task's timer may be late itself, when the event loop is busy.
        ends = time.monotonic() + sum([task.expected_s for task in batch.tasks])
        late = [task for task in batch.tasks if task.deadline is not None and ends >= task.deadline]
        if late:
            doubt(batch.servable.latencies[batch.call.signature], batch.batching, late[0])
        for task in late:
            self._expire(task)

    def _record_batch(self, batch: Batch) -> None:
        now = time.monotonic()
        if self._metrics is not None and batch.batching is not None:
            waited, sizes = [now - task.arrived for task in batch.tasks], [task.rows for task in batch.tasks]
            padding = batch.batching.padded(batch.rows) - batch.rows
            self._metrics.batch(batch.servable.name, batch.call.signature, batch.rows, padding, waited, sizes)

    def _run_in_thread(self, batches: list[Batch], is_spare: bool, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed while a batch ran
            while batches:
                try:
                    batch = batches.pop(0)
                except IndexError:  # the event loop has just given the last one to another thread
                    break
                deadlines = [task.deadline for task in batch.tasks]
                if None not in deadlines:
                    batch.stop.deadline = max(cast(list[float], deadlines), default=None)
                with stoppable(batch.stop):
                    results, seconds = batch.run()
                is_last = not batches
                loop.call_soon_threadsafe(self._end_run, batch, results, seconds, is_last)
                if is_last:
                    return
                del batch, results  # an unloaded version's memory must not wait for the next batch to end
            loop.call_soon_threadsafe(self._free_thread, is_spare)

    def _free_thread(self, is_spare: bool) -> None:
        self._count_idle(is_spare)
        self._dispatch()

    def _count_idle(self, is_spare: bool) -> None:
        if is_spare:
            self._spare_threads += 1
        else:
            self._idle_threads += 1

    def _end_run(
        self, batch: Batch, results: Sequence[Outputs | Exception], seconds: float, is_thread_idle: bool
    ) -> None:
        self._long_runs -= batch.is_long
        if is_thread_idle:
            self._count_idle(batch.is_spare)
        self._queues[batch.servable.name].engine_s += seconds
        self._running.end(batch)
        if batch.tasks and not batch.stop.is_set and not any(isinstance(result, Exception) for result in results):
            record(batch, seconds)
        self._dispatch()  # before the answers: the thread computes the next batch while they are written
        batch.deliver(results, seconds, self._metrics)
