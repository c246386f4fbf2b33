"""The one training loop: any network's train_step, many steps a call, a checkpoint from which it goes on.

The loop knows of a network only that its model has `train_step`, perhaps `test_step`, metrics, and optimizers.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.training.data.pipeline import Prepared
from ladle.training.errors import InterruptedRunError, TrainingError
from ladle.training.loop import checkpoint, fused, hosts, schedule
from ladle.training.loop.checkpoint import Figures, State
from ladle.training.loop.progress import Meter, Silent, clock, shown

CALL_SECONDS = 0.5
"""How long one call of the compiled loop lasts: between two calls progress is told and a signal is heard."""
CHECKPOINT_SECONDS = 30.0

AfterEpoch = Callable[[int, Figures], None]


def fit(
    model: keras.Model,
    prepared: Prepared,
    file: Path,
    *,
    meter: Meter | None = None,
    stop: Callable[[], bool] = lambda: False,
    after_epoch: AfterEpoch = lambda epoch, figures: None,
    xla: bool = False,
) -> State:
    """Train a compiled model to the last epoch of its config, or until the monitored figure stays behind its best.

    file         the checkpoint: gone on from when it is there, written each epoch and every CHECKPOINT_SECONDS
    stop         asked between calls; true: a checkpoint is written and InterruptedRunError raised
    after_epoch  called with the epoch (from 1) and its figures once its checkpoint is written

    The model ends with the weights of the best epoch. Raises TrainingError: a figure that is not a number, an unknown
    monitored figure, a checkpoint of another run.
    """
    return _Loop(model, prepared, file, meter or Silent(), stop, after_epoch, xla).run()


class _Loop:
    def __init__(
        self,
        model: keras.Model,
        prepared: Prepared,
        file: Path,
        meter: Meter,
        stop: Callable[[], bool],
        after_epoch: AfterEpoch,
        xla: bool,
    ) -> None:
        self.model, self.prepared, self.file, self.meter = model, prepared, file, meter
        self.stop, self.after_epoch = stop, after_epoch
        self.config, self.steps = prepared.config, prepared.steps
        self.total = self.steps * self.config.epochs
        self.strategy = model.distribute_strategy
        self.replicas = self.strategy.num_replicas_in_sync
        self.validates = model.loss is not None or type(model).test_step is not keras.Model.test_step
        self.pace = _Pace()
        self.state = State()
        self._settle()
        fused.fuse(model)
        rates = schedule.assigner(self.config, checkpoint.optimizers(model), self.total)
        self.train = _calls(self.strategy, model.train_step, self._training(0, 0), rates, xla)
        if self.validates:
            self.evaluate = _calls(self.strategy, model.test_step, self._validation(), lambda step: None, xla)
        self._load()

    def run(self) -> State:
        state = self.state
        if (state.epoch or state.step) and state.epoch < self.config.epochs:
            self.meter.say(f"  goes on at epoch {state.epoch + 1}, step {state.step}, from {self.file}")
        while state.epoch < self.config.epochs and not self._behind():
            started = time.monotonic()
            before = state.seconds
            figures = self._epoch()
            hosts.even(self.model.non_trainable_variables)
            if self.validates:
                figures |= {f"val_{name}": value for name, value in self._validated().items()}
            figures["learning_rate"] = self._rate()
            state.seconds = before + time.monotonic() - started
            state.epoch, state.step = state.epoch + 1, 0
            state.history.append({"epoch": state.epoch, **figures, "seconds": state.seconds})
            self._best(figures)
            self._save()
            mark = " *" if state.best == state.epoch else ""
            told = {name: value for name, value in figures.items() if name != "learning_rate"}
            self.meter.say(f"  epoch {state.epoch}/{self.config.epochs}  {shown(told)}  {clock(state.seconds)}{mark}")
            self.after_epoch(state.epoch, figures)
            if hosts.agreed([self.stop()], [])[0]:
                raise self._interrupted()
        if state.weights and state.best != state.epoch:
            checkpoint.assign(self.model, state.weights)
        return state

    def _load(self) -> None:
        """Go on from the checkpoint; hosts that train together from the chief's."""
        if hosts.count() == 1:
            if self.file.exists():
                self.state = checkpoint.load(self.file, self.model)
            return
        content = hosts.shared(self.file.read_bytes() if self.file.exists() else b"")
        if content:
            with tempfile.TemporaryDirectory() as folder:
                (copy := Path(folder) / self.file.name).write_bytes(content)
                self.state = checkpoint.load(copy, self.model)

    def _save(self) -> None:
        checkpoint.save(self.file if hosts.chief() else None, self.model, self.state)

    def _settle(self) -> None:
        """Create what Keras creates late, so that a checkpoint finds it: optimizer slots, compiled metrics."""
        with self.strategy.scope():
            if getattr(self.model, "optimizers", None) is None and self.model.optimizer is not None:
                self.model.optimizer.build(self.model.trainable_variables)
            if self.model.loss is not None:
                batch = next(iter(self.prepared.validation_batches()))
                few = tf.nest.map_structure(lambda rows: rows[:2], batch)
                self.strategy.run(self.model.test_step, (few,))
            self.model.reset_metrics()

    def _training(self, epoch: int, first_step: int) -> Iterator[Any]:
        return iter(self._spread(self.prepared.training_batches(epoch, first_step)))

    def _validation(self) -> Iterator[Any]:
        return iter(self._spread(self.prepared.validation_batches(drop_remainder=self.replicas > 1)))

    def _spread(self, batches: tf.data.Dataset) -> Any:
        return batches if self.replicas == 1 else self.strategy.experimental_distribute_dataset(batches)

    def _epoch(self) -> Figures:
        """The rest of the current epoch; the figures of its last step."""
        state = self.state
        if state.step == 0:
            self.model.reset_metrics()
        batches = self._training(state.epoch, state.step)
        saved, figures = time.monotonic(), Figures()
        while state.step < self.steps:
            count = min(int(hosts.agreed([], [self.pace.steps()])[0]), self.steps - state.step)
            began = time.monotonic()
            answer = self.train(batches, state.epoch * self.steps + state.step, count)
            figures = {name: float(value) for name, value in answer.items()}
            now = time.monotonic()
            self.pace.add(count, now - began)
            state.step += count
            state.seconds += now - began
            self._finite(figures)
            rate = self.prepared.batch_size / self.pace.step_seconds
            left = (self.total - state.epoch * self.steps - state.step) * self.pace.step_seconds
            self.meter.step(state.epoch + 1, state.step, figures, rate, left)
            stopped, due = hosts.agreed([self.stop()], [now - saved > CHECKPOINT_SECONDS])
            if state.step < self.steps and (stopped or due):
                self._save()
                saved = time.monotonic()
                if stopped:
                    raise self._interrupted()
        return figures

    def _interrupted(self) -> InterruptedRunError:
        place = f"epoch {self.state.epoch + 1} of {self.config.epochs}, step {self.state.step} of {self.steps}"
        if self.state.epoch == self.config.epochs:
            place = "the end of its last epoch"
        return InterruptedRunError(f"stopped at {place}; the same command goes on from there")

    def _validated(self) -> Figures:
        self.model.reset_metrics()
        size = min(self.config.batch_size, len(self.prepared.validation))
        count = len(self.prepared.validation) / size
        answer = self.evaluate(self._validation(), 0, math.floor(count) if self.replicas > 1 else math.ceil(count))
        return {name: float(value) for name, value in answer.items()}

    def _rate(self) -> float:
        optimizer = checkpoint.optimizers(self.model)[0]
        return float(schedule.rate(optimizer).value.numpy())

    def _finite(self, figures: Figures) -> None:
        for name, value in figures.items():
            if not np.isfinite(value):
                raise TrainingError(
                    f"{name} is {value} at epoch {self.state.epoch + 1}, step {self.state.step}; give a smaller "
                    f"--learning-rate than {self.config.learning_rate:g}, or look at the data for broken values"
                )

    def _best(self, figures: Figures) -> None:
        """Keep the weights when the monitored figure is the best so far; without a monitor, of the last epoch."""
        monitor, state = self.config.monitor, self.state
        if not monitor:
            state.best = state.epoch
            return
        if monitor not in figures:
            raise TrainingError(f"no figure {monitor!r} to monitor; there is {', '.join(figures)}: give one --monitor")
        rises = "accuracy" in monitor or "iou" in monitor
        value = figures[monitor]
        best = state.history[state.best - 1][monitor] if state.best else math.nan
        if not state.best or (value > best if rises else value < best):
            state.best, state.weights = state.epoch, checkpoint.values(self.model)

    def _behind(self) -> bool:
        """Whether the best epoch lies `patience` epochs back."""
        patience = self.config.patience
        return patience > 0 and self.state.best > 0 and self.state.epoch - self.state.best >= patience


class _Pace:
    """How long a step takes, and how many make a call of CALL_SECONDS."""

    def __init__(self) -> None:
        self.step_seconds, self._calls = math.inf, 0

    def add(self, count: int, seconds: float) -> None:
        self._calls += 1
        now = max(seconds / count, 1e-9)
        # The first call also compiles; later ones are averaged.
        self.step_seconds = now if self._calls <= 2 else 0.7 * self.step_seconds + 0.3 * now

    def steps(self) -> int:
        if self._calls < 2:
            return 1 if self._calls == 0 else 4
        return max(1, int(CALL_SECONDS / self.step_seconds))


def _calls(
    strategy: tf.distribute.Strategy,
    step_function: Callable[[Any], Any],
    batches: Iterator[Any],
    before: Callable[[tf.Tensor], None],
    xla: bool,
) -> Callable[[Iterator[Any], int, int], dict[str, tf.Tensor]]:
    """A compiled function (batches, first, count) -> figures after `count` steps, the first being number `first`."""
    distributed = strategy.num_replicas_in_sync > 1
    inner = tf.function(step_function, jit_compile=True, autograph=False) if xla else step_function

    def step(batch: Any, number: tf.Tensor) -> dict[str, tf.Tensor]:
        before(number)
        if not distributed:
            return dict(inner(batch))
        answer = strategy.run(inner, (batch,))
        return {name: strategy.reduce("MEAN", value, axis=None) for name, value in answer.items()}

    number = tf.TensorSpec([], tf.int64)
    one = tf.function(step, autograph=False)
    traced = one.get_concrete_function(batches.element_spec, number)  # type: ignore[attr-defined]
    zeros = {name: tf.zeros(s.shape, s.dtype) for name, s in traced.structured_outputs.items()}

    def steps(batches: Any, first: tf.Tensor, count: tf.Tensor) -> dict[str, tf.Tensor]:
        def body(i: tf.Tensor, _: Any) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
            return i + 1, one(next(batches), first + i)

        start = tf.zeros([], tf.int64)
        figures: dict[str, tf.Tensor] = tf.while_loop(lambda i, _: i < count, body, (start, zeros))[1]
        return figures

    many = tf.function(steps, autograph=False).get_concrete_function(batches, number, number)
    return lambda batches, first, count: many(batches, tf.constant(first, tf.int64), tf.constant(count, tf.int64))
