"""Shadow versions: each gets a copy of requests that were answered, and its answers are compared, never returned.

A caller never waits for a shadow and never sees its errors. The copy is made after the answer; one thread of a lower
priority runs the copies one after the other, and pauses while requests wait for an engine. The queue is bounded: what
finds it full is dropped and counted. A run that takes too long is stopped, and a version that is to be unloaded waits
for no copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.dataplane import differences, multi_inference
from ladle.serving.errors import FailedPrecondition, ServingError
from ladle.serving.repository.traffic import Shadow, resolve
from ladle.serving.repository.versions import Configuration, Versions
from ladle.serving.runtime.cores import lower_priority
from ladle.serving.runtime.log import log_caller_error
from ladle.serving.runtime.stopping import Stop, stoppable
from ladle.serving.scheduling.rows import bytes_of
from ladle.serving.scheduling.scheduler import Scheduler
from ladle.serving.servables import examples, matching
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry.metrics import Metrics, ShadowKey
from ladle.serving.telemetry.observation import Observation

log = logging.getLogger(__name__)

MAX_WAITING = 100
"""Copies that wait for the thread."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
_AFTER_S = 0.001
_PAUSE_S = 0.002
_LOOK_S = 1.0  # how often the event loop looks whether a run takes too long
_MAX_DONE = 16  # copies that have run before the event loop is told: to wake it for each one would cost it more

Outputs = dict[str, Array]


class _Asked(NamedTuple):
    """What a copy keeps of the request's observation, which would keep its answer in memory, too."""

    kind: str
    signature: str
    output_filter: Sequence[str]
    tasks: Sequence[multi_inference.Inference]


class Copy(NamedTuple):
    """A request that was answered, and the shadow that is to answer it, too.

    asked      kind, signature, outputs and tasks of the request
    inputs     arrays by alias; of classify, regress and multi_inference the serialized tf.Examples under `inputs`
    answer     what the caller got, by output; of multi_inference under `signature/output`
    answer_s   seconds of the answer's run
    stop       ends the run of the copy
    """

    servable: Servable
    shadow: Shadow
    key: ShadowKey
    asked: _Asked
    inputs: Mapping[str, Array]
    answer: Outputs
    answer_s: float
    size_bytes: int
    stop: Stop


class Shadows:
    """Copies answered requests to the shadow of their model, and counts how requests to splits went.

    max_run_s  seconds after which the run of a copy is stopped, which counts as failed; 0: never
    """

    def __init__(
        self,
        versions: Versions,
        configuration: Configuration,
        scheduler: Scheduler,
        metrics: Metrics,
        max_run_s: float = 30.0,
    ) -> None:
        self._versions = versions
        self._configuration = configuration
        self._scheduler = scheduler
        self._metrics = metrics
        self._max_run_s = max_run_s
        self._waiting: deque[Copy] = deque()
        self._waiting_bytes = 0
        self._running: Copy | None = None
        self._done: list[Servable] = []  # of copies that have ended, and still count as requests in flight
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def see(self, observation: Observation, code: str, seconds: float) -> None:
        """Takes a request that has been answered, in so many seconds. Called on the event loop; never raises."""
        if observation.arm is not None:
            self._metrics.arm(*observation.arm, code, seconds)
        traffic = self._configuration.traffic.get(observation.model)
        if traffic is None or traffic.shadow is None or code != "OK" or not observation.kind:
            return
        if random.random() * 100 >= traffic.shadow.percent:  # noqa: S311
            return
        # A moment later: if the copy ends the process, the answer has been written.
        asyncio.get_running_loop().call_later(_AFTER_S, self._copy, observation, traffic.shadow)

    def _copy(self, observation: Observation, shadow: Shadow) -> None:
        try:
            self._offer(observation, shadow)
        except Exception:  # the caller has an answer, and must get it
            log.exception("a request of %s was not copied to its shadow", observation.model)

    def _offer(self, observation: Observation, shadow: Shadow) -> None:
        version = resolve(shadow.name, self._configuration.labels.get(shadow.model, {}))
        if shadow.model == observation.model and version == observation.version:
            return
        key = observation.model, str(observation.version), str(shadow), "" if version is None else str(version)
        servable = self._versions.serving_map.versions.get(shadow.model, {}).get(-1 if version is None else version)
        if servable is None:
            self._metrics.shadow(key, "failed")
            log_caller_error(log, "the shadow %s of %s is not loaded; its copies fail", shadow, observation.model)
            return
        inputs, answer = _exchanged(observation)
        if shadow.outputs:
            answer = {name: array for name, array in answer.items() if name in shadow.outputs}
            if not answer:
                return
        asked = _Asked(observation.kind, observation.signature, observation.output_filter, observation.tasks)
        size = bytes_of(inputs) + bytes_of(answer)
        with self._changed:  # the thread holds it for microseconds, never while it runs a copy
            is_full = len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES
            if not is_full:
                self._loop = asyncio.get_running_loop()
                inputs, answer = _apart(inputs), _apart(answer)
                seconds = observation.run_s() or 0.0
                servable.enter()
                servable.on_retire = self._forget
                self._waiting.append(Copy(servable, shadow, key, asked, inputs, answer, seconds, size, Stop()))
                self._waiting_bytes += size
                self._changed.notify()
        if is_full:
            self._metrics.shadow(key, "dropped")
        elif self._thread is None:  # not earlier: a thread does not survive the fork of a guardian
            self._thread = threading.Thread(target=self._run_all, name="shadow", daemon=True)
            self._thread.start()
            self._look()

    def _look(self) -> None:
        """Stops a run that takes too long; on the event loop, once a second: a timer for each copy would cost more."""
        running = self._running
        if running is not None and time.monotonic() > (running.stop.deadline or math.inf):
            running.stop.set()
        if self._max_run_s and not self._is_closed:
            asyncio.get_running_loop().call_later(min(_LOOK_S, self._max_run_s / 2), self._look)

    def _forget(self, servable: Servable) -> None:
        """Drops the copies for a version that is to be unloaded, and stops the one that runs. Called in any thread."""
        with self._changed:
            dropped = [copy for copy in self._waiting if copy.servable is servable]
            self._waiting = deque(copy for copy in self._waiting if copy.servable is not servable)
            self._waiting_bytes -= sum(copy.size_bytes for copy in dropped)
            ended = [each for each in self._done if each is servable]
            self._done = [each for each in self._done if each is not servable]
            if self._running is not None and self._running.servable is servable:
                self._running.stop.set()
        for copy in dropped:
            self._metrics.shadow(copy.key, "dropped")
        self._leave([*(copy.servable for copy in dropped), *ended])

    def close(self) -> None:
        """Runs no more copies."""
        with self._changed:
            self._is_closed = True
            if self._running is not None:
                self._running.stop.set()
            self._changed.notify()

    # In the thread

    def _run_all(self) -> None:
        lower_priority()
        while True:
            with self._changed:
                if self._done and (not self._waiting or len(self._done) >= _MAX_DONE):
                    self._leave(self._done)
                    self._done = []
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                if self._is_closed:
                    return
                copy = self._running = self._waiting.popleft()
                self._waiting_bytes -= copy.size_bytes
            while self._scheduler.waiting and not copy.stop.is_set:
                time.sleep(_PAUSE_S)
            copy.stop.deadline = time.monotonic() + self._max_run_s if self._max_run_s else None
            self._run(copy)
            with self._changed:
                self._running = None
                self._done.append(copy.servable)
            del copy  # the thread waits for the next one, and must not keep the arrays of the last one meanwhile

    def _leave(self, servables: Sequence[Servable]) -> None:
        """Counts copies as ended, on the event loop, to which the counts belong."""

        def leave() -> None:
            for servable in servables:
                servable.leave()

        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
            self._loop.call_soon_threadsafe(leave)

    def _run(self, copy: Copy) -> None:
        try:
            with stoppable(copy.stop):
                if copy.servable.on_idle is not None:  # to be unloaded, since before its copy was known
                    copy.stop.set()
                copy.stop.check()
                outputs, seconds = _answer(copy)
            if copy.shadow.outputs:
                outputs = {name: array for name, array in outputs.items() if name in copy.shadow.outputs}
            found = differences.compare(copy.answer, outputs, copy.shadow.tolerance)
        except Exception as error:  # engines' exceptions have no common base class
            if copy.servable.on_idle is not None or self._is_closed:
                self._metrics.shadow(copy.key, "dropped")
                return
            message = error.message if isinstance(error, ServingError) else repr(error)
            if copy.stop.is_set:
                message = f"it was stopped after {self._max_run_s:g} s"
            log_caller_error(log, "the shadow %s of %s failed: %s", copy.shadow, copy.key[0], message)
            self._metrics.shadow(copy.key, "failed")
            return
        self._metrics.shadow_answered(copy.key, found, copy.answer_s, seconds)


def _apart(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays without what they are parts of, if that is larger: a whole batch, or all inputs of a request."""
    return {name: array.copy() if _whole_bytes(array) > 2 * array.nbytes else array for name, array in arrays.items()}


def _whole_bytes(array: Array) -> int:
    """Bytes of the memory in which an array lies."""
    whole: Any = array
    while (base := getattr(whole, "base", None)) is not None:
        whole = base
    if isinstance(whole, memoryview):
        whole = whole.obj
    return whole.nbytes if isinstance(whole, np.ndarray) else len(whole) if isinstance(whole, bytes | bytearray) else 0


def _exchanged(observation: Observation) -> tuple[Mapping[str, Array], Outputs]:
    """The inputs and outputs of a request, by name."""
    if observation.kind == "predict":
        return observation.inputs, dict(observation.outputs)
    inputs, outputs = {examples.INPUTS: observation.inputs}, observation.outputs
    if observation.kind == "classify":
        return inputs, _named(classes=outputs[0], scores=outputs[1])
    if observation.kind == "regress":
        return inputs, {examples.OUTPUTS: outputs}
    answer: Outputs = {}
    for task, result in zip(observation.tasks, outputs, strict=True):
        answer |= _of_task(task, result)
    return inputs, answer


def _of_task(task: multi_inference.Inference, result: multi_inference.Result) -> Outputs:
    named = _named(classes=result.classes, scores=result.scores, outputs=result.values)
    return {f"{task.signature}/{name}": array for name, array in named.items()}


def _named(**arrays: Array | None) -> Outputs:
    return {name: array for name, array in arrays.items() if array is not None}


def _answer(copy: Copy) -> tuple[Outputs, float]:
    """The shadow's answer by output, and the seconds of its runs. ServingError, and what an engine raises."""
    servable, seen, inputs = copy.servable, copy.asked, copy.inputs
    if seen.kind == "multi_inference":
        return _answer_tasks(copy)
    signature = servable.signatures.get(seen.signature)
    if signature is None:
        raise FailedPrecondition(f'it has no signature "{seen.signature}"')
    if seen.kind == "classify":
        outputs = examples.check_classify(signature)
    elif seen.kind == "regress":
        outputs = examples.check_regress(signature)
    else:
        matching.check_names(signature, inputs)
        outputs = matching.choose_outputs(signature, copy.answer if copy.shadow.outputs else seen.output_filter)
    matching.check_dtypes(signature, inputs)
    if seen.kind == "predict":
        inputs = matching.complete(signature, inputs)
    answer, seconds = _timed(servable, signature.name, inputs, outputs)
    if seen.kind == "regress":  # as the caller gets it: [n, 1] becomes [n]
        answer = {examples.OUTPUTS: examples.read_values(answer, len(inputs[examples.INPUTS]))}
    return answer, seconds


def _answer_tasks(copy: Copy) -> tuple[Outputs, float]:
    """The same of a multi_inference."""
    servable, tasks, inputs = copy.servable, copy.asked.tasks, copy.inputs
    answer: Outputs = {}
    total = 0.0
    for task, (signature, outputs) in zip(tasks, multi_inference.check(servable, tasks), strict=True):
        matching.check_dtypes(signature, inputs)
        one, seconds = _timed(servable, signature.name, inputs, outputs)
        result = multi_inference.read(task, one, len(inputs[examples.INPUTS]))
        answer |= _of_task(task, result)
        total += seconds
    return answer, total


def _timed(
    servable: Servable, signature: str, inputs: Mapping[str, Array], outputs: tuple[str, ...]
) -> tuple[Outputs, float]:
    start = time.perf_counter()
    answer = servable.run(signature, inputs, outputs)
    return answer, time.perf_counter() - start
