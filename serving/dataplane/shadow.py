"""Shadow versions: each gets a copy of requests that were answered, and its answers are compared, never returned.

A caller never waits for a shadow and never sees its errors. The copy is made after the answer; one thread of a lower
priority runs the copies one after the other, and pauses while requests wait for an engine. The queue is bounded: what
finds it full is dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from ladle.clients.wire.arrays import Array
from ladle.serving.dataplane import differences, multi_inference
from ladle.serving.errors import FailedPrecondition, ServingError
from ladle.serving.repository.traffic import Shadow, resolve
from ladle.serving.repository.versions import Configuration, Versions
from ladle.serving.runtime.cores import lower_priority
from ladle.serving.runtime.log import log_caller_error
from ladle.serving.scheduling.batch import bytes_of
from ladle.serving.scheduling.scheduler import Scheduler
from ladle.serving.servables import examples, matching
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry.metrics import Metrics, ShadowKey
from ladle.serving.telemetry.observation import Observation

log = logging.getLogger(__name__)

MAX_WAITING = 100
"""Copies that wait for the thread."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
_PAUSE_S = 0.002
_MAX_DONE = 16  # copies that have run before the event loop is told: to wake it for each one would cost it more

Outputs = dict[str, Array]


class Copy(NamedTuple):
    """A request that was answered, and the shadow that is to answer it, too.

    inputs   arrays by alias; of classify, regress and multi_inference the serialized tf.Examples under `inputs`
    answer   what the caller got, by output; of multi_inference under `signature/output`
    answer_s seconds of the answer's run
    """

    servable: Servable
    shadow: Shadow
    key: ShadowKey
    observation: Observation
    inputs: Mapping[str, Array]
    answer: Outputs
    answer_s: float
    size_bytes: int


class Shadows:
    """Copies answered requests to the shadow of their model, and counts how requests to splits went."""

    def __init__(
        self, versions: Versions, configuration: Configuration, scheduler: Scheduler, metrics: Metrics
    ) -> None:
        self._versions = versions
        self._configuration = configuration
        self._scheduler = scheduler
        self._metrics = metrics
        self._waiting: deque[Copy] = deque()
        self._waiting_bytes = 0
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
        try:
            self._offer(observation, traffic.shadow)
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
        size = bytes_of(inputs) + bytes_of(answer)
        with self._changed:  # the thread holds it for microseconds, never while it runs a copy
            is_full = len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES
            if not is_full:
                servable.enter()
                self._waiting.append(
                    Copy(servable, shadow, key, observation, inputs, answer, observation.run_s() or 0.0, size)
                )
                self._waiting_bytes += size
                self._changed.notify()
        if is_full:
            self._metrics.shadow(key, "dropped")
        elif self._thread is None:  # not earlier: a thread does not survive the fork of a guardian
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run_all, name="shadow", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Runs no more copies."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    # In the thread

    def _run_all(self) -> None:
        lower_priority()
        done: list[Servable] = []
        while True:
            with self._changed:
                if done and (not self._waiting or len(done) >= _MAX_DONE):
                    self._leave(done)
                    done = []
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                if self._is_closed:
                    return
                copy = self._waiting.popleft()
                self._waiting_bytes -= copy.size_bytes
            while self._scheduler.waiting and not self._is_closed and copy.servable.on_idle is None:
                time.sleep(_PAUSE_S)
            if copy.servable.on_idle is None:
                self._run(copy)
            else:  # the version is to be unloaded, and waits for its copies
                self._metrics.shadow(copy.key, "dropped")
            done.append(copy.servable)
            del copy  # the thread waits for the next one, and must not keep the arrays of the last one meanwhile

    def _leave(self, servables: list[Servable]) -> None:
        """Counts the copies as ended, on the event loop, to which the counts belong."""

        def leave() -> None:
            for servable in servables:
                servable.leave()

        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
            self._loop.call_soon_threadsafe(leave)

    def _run(self, copy: Copy) -> None:
        try:
            outputs, seconds = _answer(copy)
            if copy.shadow.outputs:
                outputs = {name: array for name, array in outputs.items() if name in copy.shadow.outputs}
            found = differences.compare(copy.answer, outputs, copy.shadow.tolerance)
        except Exception as error:  # engines' exceptions have no common base class
            message = error.message if isinstance(error, ServingError) else repr(error)
            log_caller_error(log, "the shadow %s of %s failed: %s", copy.shadow, copy.key[0], message)
            self._metrics.shadow(copy.key, "failed")
            return
        self._metrics.shadow_answered(copy.key, found, copy.answer_s, seconds)


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
    servable, seen, inputs = copy.servable, copy.observation, copy.inputs
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
    servable, tasks, inputs = copy.servable, copy.observation.tasks, copy.inputs
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
