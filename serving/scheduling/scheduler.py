"""Decides when and where a request runs: at once on the event loop, in a thread, merged with others, or not at all.

All state, that of `queues` and `dispatch` too, belongs to the event loop, so there are no locks; threads only run
batches.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Sequence
from functools import partial

from ladle.serving.errors import DeadlineExceeded, FailedPrecondition, ResourceExhausted, ServingError, Unavailable
from ladle.serving.runtime.cores import loop_activity
from ladle.serving.scheduling.batch import LATE, Batch, Call, Outputs, Task, run_merged, summarize
from ladle.serving.scheduling.dispatch import Dispatcher
from ladle.serving.scheduling.expectation import doubt, expected_s
from ladle.serving.scheduling.limits import MIN_RUNS, Limits
from ladle.serving.scheduling.queues import ModelQueue, Queues
from ladle.serving.scheduling.refusals import Refusals
from ladle.serving.scheduling.rows import Tensors, bytes_of, cut, join, rows_of
from ladle.serving.scheduling.tick import Tick
from ladle.serving.servables.batching_parameters import Batching
from ladle.serving.servables.latency import QUICK_S
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry.metrics import Metrics
from ladle.serving.telemetry.observation import Observation
from ladle.serving.telemetry.usage import Usage

MERGED_FROM_S = 200e-6
"""Runs that take less merge only with requests of the same tick; longer ones wait for a thread, and merge there."""
_WAIT_MARGIN = 1.5  # times the expected wait must fit a deadline: what is admitted at the brink is answered too late


class Scheduler:
    """Runs requests on their servables.

    threads  batches that run at once beside the event loop; default: the number of cores, at least 2. When all of them
             are busy with long runs, a quarter as many more (at least one) run short ones
    """

    def __init__(
        self, threads: int | None = None, limits: Limits | None = None, metrics: Metrics | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._metrics = metrics
        self._queues = Queues(metrics)
        self._dispatcher = Dispatcher(self._queues, threads, metrics)
        self._tick = Tick(self._run_on_loop)
        self._refusals = Refusals()

    @property
    def waiting(self) -> int:
        """Requests that wait for an engine."""
        return self._queues.requests

    async def run(
        self,
        servable: Servable,
        call: Call,
        inputs: Tensors,
        deadline: float | None = None,
        observation: Observation | None = None,
    ) -> Outputs:
        """`start`, as a coroutine: it begins when it is awaited."""
        return await self.start(servable, call, inputs, deadline, observation)

    def start(
        self,
        servable: Servable,
        call: Call,
        inputs: Tensors,
        deadline: float | None = None,
        observation: Observation | None = None,
    ) -> Awaitable[Outputs]:
        """The outputs by alias. To be awaited at once.

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
                done = asyncio.get_running_loop().create_future()
                done.set_result(self._run_now(servable, call, batching, inputs, rows, size, observation))
                return done
            if batching is None:
                run = partial(self._run_now, servable, call, None, inputs, rows, size, observation)
                return self._tick.add(servable, run, expected, deadline)
            return self._tick.add_merged(
                servable, call, batching, merge_key, inputs, rows, expected, deadline, observation
            )
        batch = Batch(servable, call, batching, merge_key)
        if batching is None or not batching.enable_large_batch_splitting:
            return self._queue(batch, [inputs], deadline, observation, size)
        queue = self._queues.models.get(servable.name)
        last = queue.open_batches.get(merge_key) if queue is not None else None
        # The last batch may have been begun under other parameters, and be larger than these allow.
        parts = cut(inputs, rows, max(0, batching.limit - last.rows) if last else 0, batching.limit)
        return self._queue(batch, parts, deadline, observation)

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
                outputs = servable.run(call.signature, inputs, call.outputs, size, call.ready)
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
                cell = usage.sizes.get(rows)
                if cell is None:
                    cell = usage.new_size(rows)
                cell[0] += 1
                cell[1] += seconds
            if self._metrics is not None:
                self._metrics.runtime(servable.name, call.signature, seconds, rows, call.api)
                if batching is not None:
                    self._metrics.batch(servable.name, call.signature, rows, batching.padded(rows) - rows, 0.0)

    def _run_on_loop(self, batch: Batch) -> None:
        loop_activity.quick_at = time.perf_counter()
        batch.record_start(self._metrics)
        batch.deliver(*batch.run(), self._metrics)

    # Waiting

    async def _queue(
        self,
        batch: Batch,
        parts: Sequence[Tensors],
        deadline: float | None,
        observation: Observation | None,
        size: int = 0,
    ) -> Outputs:
        """Queues the parts of a request and waits for their outputs.

        batch  the empty batch that they would start
        size   of a single part, as the signature's Latency counts it; 0: not counted yet
        """
        loop = asyncio.get_running_loop()
        tasks = [
            Task(
                part, rows_of(part), bytes_of(part), loop.create_future(), deadline, size=size, observation=observation
            )
            for part in parts
        ]
        queue = self._queues.models.get(batch.servable.name)
        try:
            self._limits.check(batch, tasks, queue, self._queues.requests, self._queues.size_bytes)
            self._check_wait(batch, tasks, queue, deadline)
        except ServingError as error:
            batch.servable.usage.failed += 1
            if isinstance(error, DeadlineExceeded | ResourceExhausted | Unavailable):
                await self._refusals.take_turn(sum(task.size_bytes for task in tasks), deadline)
            raise
        for task in tasks:
            task.is_part = len(tasks) > 1
            self._queues.add(task, batch)
            if deadline is not None:
                task.timer = loop.call_later(deadline - time.monotonic(), self._queues.expire, task)
        self._dispatcher.soon()
        try:
            return await (tasks[0].future if len(tasks) == 1 else _joined(tasks, batch.servable.usage))
        finally:
            for task in tasks:
                self._queues.abandon(task)
            # An error refers to this frame. If the frame referred to the error, by way of the tasks' futures, both and
            # the servable would stay in memory until the next garbage collection.
            del task, tasks, batch

    def _check_wait(
        self, batch: Batch, tasks: Sequence[Task], queue: ModelQueue | None, deadline: float | None
    ) -> None:
        """Refuses at once what would be answered too late: DeadlineExceeded, or Unavailable because of the queue."""
        latency = batch.servable.latencies[batch.call.signature]
        for task in tasks:
            task.size = task.size or latency.size_of(task.inputs)
            task.expected_s = expected_s(latency, batch.batching, task)
        now = time.monotonic()
        left = math.inf if deadline is None else deadline - now
        run_s = max(task.expected_s for task in tasks)
        if run_s > left:
            doubt(latency, batch.batching, tasks[0])
            raise DeadlineExceeded(f"{LATE}: a run takes about {run_s:.2g} s, and {max(0.0, left):.2g} s are left")
        wait_s = self._dispatcher.expected_wait_s(queue, now)
        if self._limits.wait_s and wait_s > max(self._limits.wait_s, MIN_RUNS * run_s):
            raise Unavailable(f"the queue of {batch.servable.name} takes about {wait_s:.2g} s; retry later")
        if _WAIT_MARGIN * wait_s + run_s > left:
            raise Unavailable(
                f"the queue of {batch.servable.name} takes about {wait_s:.2g} s, too long for a deadline in "
                f"{left:.2g} s; retry later"
            )


async def _joined(parts: Sequence[Task], usage: Usage) -> Outputs:
    """The outputs of a request that runs in parts. In the statistics it is one request, however many parts it has."""
    arrived = parts[0].arrived
    try:
        outputs = await asyncio.gather(*(part.future for part in parts))
        run_s, rows = sum([part.run_s for part in parts]), sum([part.rows for part in parts])
        try:
            joined = join(outputs)
        except ValueError:
            raise FailedPrecondition("the parts of the split request have outputs of different inner sizes") from None
    except Exception:
        usage.fail(time.monotonic() - arrived)
        raise
    finally:
        del parts  # as in `Scheduler._queue`
    usage.answer(time.monotonic() - arrived, run_s, rows)
    return joined
