"""Gives waiting batches to threads, and to the event loop those that have become quick.

The requests for one model begin in order of arrival, but for short ones of which a thread takes several. Between models
the queue is fair: the one that has had the least engine time runs next.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import cast

from ladle.serving.runtime.cores import lower_priority, run_threads
from ladle.serving.runtime.stopping import stoppable
from ladle.serving.scheduling.batch import Batch, Outputs
from ladle.serving.scheduling.expectation import Running, record
from ladle.serving.scheduling.queues import ModelQueue, Queues
from ladle.serving.telemetry.metrics import Metrics

_RETRY_MERGING = 32  # requests that run alone, because merging had not paid off, before merging is tried again
SHORT_S = 0.1
"""A run that should take at most this long need not wait for longer ones: some threads are kept for such runs."""
TOGETHER_S = 2e-3
"""A thread takes runs from a long queue that should take this long together. A busy event loop would otherwise let the
thread wait for as long after each short run."""
AHEAD_S = 20e-3
"""A run that should take at most this long is given to a thread while the run before it lasts. The thread begins it at
once: it need not wait for the event loop, which a busy one makes half a millisecond."""
_MAX_SCANNED = 32  # batches at the head of a queue among which a short one is looked for


@dataclass(eq=False)
class Hand:
    """What a busy thread has yet to begin.

    ends       `time.monotonic()` seconds at which it should have run all of it; inf: nobody knows
    has_begun  whether the thread has taken the first one out
    """

    batches: list[Batch]
    ends: float = math.inf
    has_begun: bool = False

    def take(self, batch: Batch, expected_s: float, now: float) -> None:
        """The thread runs this batch, too."""
        self.batches.append(batch)
        self.ends = max(self.ends, now) + expected_s

    def is_soon_over(self, now: float) -> bool:
        """Whether the thread has nothing but its present run, which should end soon. An overdue one may last long."""
        return len(self.batches) <= (not self.has_begun) and abs(self.ends - now) <= AHEAD_S


class Dispatcher:
    """Runs the batches of `queues` on threads; `threads` is that of `Scheduler`."""

    def __init__(self, queues: Queues, threads: int | None = None, metrics: Metrics | None = None) -> None:
        self._queues = queues
        self._metrics = metrics
        self._threads, self._spare_threads = run_threads(threads)
        self._idle_threads = self._threads
        self._long_runs = 0
        self._pool = ThreadPoolExecutor(
            self._threads + self._spare_threads, thread_name_prefix="run", initializer=lower_priority
        )
        self._running = Running()
        self._hands: list[Hand] = []  # of each busy thread
        self._is_scheduled = False

    def expected_wait_s(self, queue: ModelQueue | None, now: float) -> float:
        """Seconds that a request should wait behind those in its model's queue and its turns with other models."""
        if self._idle_threads:
            return 0.0
        own_s = queue.waiting_s if queue is not None else 0.0
        others_s = sum([min(other.waiting_s, own_s) for other in self._queues.models.values() if other is not queue])
        return (own_s + others_s + self._running.left_s(now)) / self._threads

    def soon(self) -> None:
        """Starts what can start once the event loop has read the requests that have arrived already.

        Not at once: they can then merge with the one that calls this.
        """
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Starts what can start: quick batches on the event loop, the others where a thread is idle."""
        self._is_scheduled = False
        queues = list(self._queues.models.values())
        for queue in queues:
            while queue.batches and queue.batches[0].is_quick():
                batch = queue.batches.popleft()
                if self._queues.start(batch):
                    batch.deliver(*batch.run(), self._metrics)
        while self._idle_threads and (waiting := [queue for queue in queues if queue.batches]):
            queue = min(waiting, key=lambda queue: queue.engine_s)
            if (chosen := self._next(queue)) is not None:
                self._queues.virtual_time_s = queue.engine_s
                self._idle_threads -= 1
                expected = chosen.expected_s()
                chosen.is_long = expected is not None and expected > SHORT_S
                self._long_runs += chosen.is_long
                batches = [chosen]
                if expected is not None and expected < TOGETHER_S and len(queue.batches) > self._threads:
                    batches += self._further(queue, TOGETHER_S - expected)
                self._submit(Hand(batches))
        # A run may last longer than expected: what its thread has in hand need not wait for it.
        while self._idle_threads and (taken := self._take_from_hand()) is not None:
            self._idle_threads -= 1
            self._submit(Hand([taken]))
        self._give_ahead(queues)
        # Long runs may take seconds each. A short one that waited for them would answer late for no gain.
        while self._spare_threads and self._long_runs == self._threads:
            short = self._next_short(queue for queue in queues if queue.batches)
            if short is None:
                break
            short.is_spare = True
            self._spare_threads -= 1
            self._submit(Hand([short]), is_spare=True)

    def _take_from_hand(self) -> Batch | None:
        """Takes back the last batch that a busy thread has yet to begin; None if there is none."""
        for hand in self._hands:
            with contextlib.suppress(IndexError):  # that thread has just begun its last one
                return hand.batches.pop()
        return None

    def _give_ahead(self, queues: Iterable[ModelQueue]) -> None:
        """Gives each thread that ends soon its next batch, if that should be short and nothing can join it."""
        now = time.monotonic()
        for hand in self._hands:
            waiting = [queue for queue in queues if queue.batches]
            if not waiting:
                return
            if hand.is_soon_over(now):
                queue = min(waiting, key=lambda queue: queue.engine_s)
                first = queue.batches[0]
                expected = first.expected_s() if first.batching is None else None
                if expected is not None and expected <= AHEAD_S and (batch := self._next(queue)) is not None:
                    self._queues.virtual_time_s = queue.engine_s
                    self._running.begin([batch], max(now, hand.ends))
                    hand.take(batch, expected, now)

    def _submit(self, hand: Hand, is_spare: bool = False) -> None:
        """Gives batches to a thread. One on a spare thread is short, and holds up nobody."""
        if not is_spare:
            now, expected = time.monotonic(), [batch.expected_s() for batch in hand.batches]
            self._running.begin(hand.batches, now)
            hand.ends = now + sum([math.inf if seconds is None else seconds for seconds in expected])
            self._hands.append(hand)
        self._pool.submit(self._run_in_thread, hand, is_spare, asyncio.get_running_loop())

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
                    if self._queues.start(batch):
                        return batch
        return None

    def _next(self, queue: ModelQueue) -> Batch | None:
        """The queue's first batch, or only its first request where merging has not paid off; None if it expired."""
        batch = queue.batches[0]
        self._queues.expire_late(batch)
        if not batch.is_waiting:
            return None
        if not batch.pays_off():
            queue.unmerged += 1
            # A merged run now and then keeps the measured times fresh: other load may have slowed the first ones.
            if queue.unmerged % _RETRY_MERGING:
                first = batch.take_first()
                self._queues.count(batch, first.tasks, -1)
                first.record_start(self._metrics)
                return first
        queue.batches.popleft()
        return batch if self._queues.start(batch) else None

    def _run_in_thread(self, hand: Hand, is_spare: bool, loop: asyncio.AbstractEventLoop) -> None:
        batches = hand.batches
        with contextlib.suppress(RuntimeError):  # the loop was closed while a batch ran
            while batches:
                try:
                    batch = batches.pop(0)
                except IndexError:  # the event loop has just given the last one to another thread
                    break
                hand.has_begun = True
                deadlines = [task.deadline for task in batch.tasks]
                if None not in deadlines:
                    batch.stop.deadline = max(cast(list[float], deadlines), default=None)
                with stoppable(batch.stop):
                    results, seconds = batch.run()
                is_last = not batches
                loop.call_soon_threadsafe(self._end_run, batch, results, seconds, hand if is_last else None)
                if is_last:
                    return
                del batch, results  # an unloaded version's memory must not wait for the next batch to end
            loop.call_soon_threadsafe(self._free_thread, hand, is_spare)

    def _free_thread(self, hand: Hand, is_spare: bool) -> None:
        self._count_idle(hand, is_spare)
        self._dispatch()

    def _count_idle(self, hand: Hand, is_spare: bool) -> None:
        """Counts a thread as idle that has found its hand empty. What has come into the hand since goes to another."""
        if is_spare:
            self._spare_threads += 1
            return
        self._hands.remove(hand)
        if hand.batches:
            self._submit(Hand(hand.batches))
        else:
            self._idle_threads += 1

    def _end_run(
        self, batch: Batch, results: Sequence[Outputs | Exception], seconds: float, ended: Hand | None
    ) -> None:
        """Takes down a run and answers it. ended: the hand that its thread has found empty; None: it goes on."""
        self._long_runs -= batch.is_long
        if ended is not None:
            self._count_idle(ended, batch.is_spare)
        self._queues.models[batch.servable.name].engine_s += seconds
        self._running.end(batch)
        if batch.tasks and not batch.stop.is_set and not any(isinstance(result, Exception) for result in results):
            record(batch, seconds)
        self._dispatch()  # before the answers: the thread computes the next batch while they are written
        batch.deliver(results, seconds, self._metrics)
