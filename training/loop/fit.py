"""The training loop of all networks: many steps in one call, and a checkpoint from which a run continues.

The loop needs of a model only `train_step`, metrics and optimizers, and `test_step` if it is validated.
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
from ladle.training.loop import checkpoint, fused, hosts, schedule, target
from ladle.training.loop.checkpoint import Figures, State, pack, unpack
from ladle.training.loop.progress import Meter, Silent, epoch_line

CALL_SECONDS = 0.5
"""Target duration of one call of the compiled loop. Python runs only between calls: it reports progress and checks for
a signal. Longer calls would make a run slow to stop. With one step a call, small networks would spend most of their
time in Python."""
CHECKPOINT_SECONDS = 30.0
"""Time between checkpoints within an epoch."""

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
    """Train a compiled model for the epochs of its config, until `patience` epochs bring no better monitored metric,
    until the target of the config is reached, or until its time is over.

    file         the checkpoint: continued if it exists, written after each epoch and every CHECKPOINT_SECONDS
    stop         called between calls of the compiled loop; if True, a checkpoint is written and InterruptedRunError
                 raised
    after_epoch  called with the epoch (from 1) and its metrics, after its checkpoint is written

    The model ends with the weights of the best epoch, or of the one that reached the target. Raises TrainingError: a
    metric is not finite, the monitored metric or the target's is unknown, the checkpoint belongs to another run.
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
        self.target = target.parse(self.config.until)
        self.strategy = model.distribute_strategy
        self.replicas = self.strategy.num_replicas_in_sync
        self.validates = model.loss is not None or type(model).test_step is not keras.Model.test_step
        self.timer = _StepTimer()
        self.state = State()
        self._create_variables()
        fused.fuse(model)
        rates = schedule.assigner(self.config, checkpoint.optimizers(model), self.total)
        self.train = _calls(self.strategy, model.train_step, self._training(0, 0), rates, xla)
        if self.validates:
            self.evaluate = _calls(self.strategy, model.test_step, self._validation(), lambda step: None, xla)
        # Last: the schedule above has read the base learning rates, which a checkpoint overwrites with scaled ones.
        self._load()

    def run(self) -> State:
        state = self.state
        if (state.epoch or state.step) and state.epoch < self.config.epochs:
            self.meter.say(f"  continues at epoch {state.epoch + 1}, step {state.step}, from {self.file}")
        while state.epoch < self.config.epochs and not self._ends_early():
            started = time.monotonic()
            before = state.seconds
            figures = self._epoch()
            hosts.average(self.model.non_trainable_variables)
            if self.validates:
                figures |= {f"val_{name}": value for name, value in self._validated().items()}
            figures["learning_rate"] = self._rate()
            state.seconds = before + time.monotonic() - started
            state.epoch, state.step = state.epoch + 1, 0
            state.history.append({"epoch": state.epoch, **figures, "seconds": state.seconds})
            self._keep_best(figures)
            self._save()
            self.meter.epoch(state.epoch, self._line(figures))
            self.after_epoch(state.epoch, figures)
            if hosts.agree([self.stop()], [])[0]:
                raise self._interrupted()
        monitor = self.config.monitor
        if self._out_of_patience() and state.epoch < self.config.epochs:
            self.meter.say(
                f"  stopped   early, after {state.epoch} of {self.config.epochs} epochs: {monitor} was not better for "
                f"{self.config.patience} (--patience)"
            )
        elif self._out_of_time() and state.epoch < self.config.epochs:
            self.meter.say(
                f"  stopped   after {state.epoch} of {self.config.epochs} epochs: {self.config.max_minutes:g} minutes "
                "were over (--max-minutes)"
            )
        if monitor and state.best and state.epoch > 1:
            value = state.history[state.best - 1][monitor]
            self.meter.say(
                f"  best      epoch {state.best} of {state.epoch}, {monitor} {value:.4g}; its weights are kept"
            )
        if self.target and self._reached():
            name, value = self.target.measured(state.history[-1])
            self.meter.say(f"  reached   {name} {value:.4g} at epoch {state.epoch}, asked for by --until {self.target}")
        if state.weights and state.best != state.epoch:
            checkpoint.assign(self.model, state.weights)
        return state

    def _line(self, figures: Figures) -> str:
        """The last epoch in a line: the loss and the monitored metric first."""
        state, monitor = self.state, self.config.monitor
        logged = {name: value for name, value in figures.items() if name != "learning_rate"}
        first = [*list(logged)[:1], *([monitor] if monitor else [])]
        is_best = bool(monitor) and state.best == state.epoch
        return epoch_line(state.epoch, self.config.epochs, logged, first, state.seconds, is_best)

    def _load(self) -> None:
        """Continue from the checkpoint. Hosts that train together all take the chief's: the others have none."""
        if hosts.count() == 1:
            if self.file.exists():
                self.state = checkpoint.load(self.file, self.model)
            return
        content = hosts.broadcast(self.file.read_bytes() if self.file.exists() else b"")
        if content:
            with tempfile.TemporaryDirectory() as folder:
                (copy := Path(folder) / self.file.name).write_bytes(content)
                self.state = checkpoint.load(copy, self.model)
        if len(self.state.local) == hosts.count():
            checkpoint.assign_local(self.model, self.state.local[hosts.number()])
        elif self.state.step:
            self.meter.say(f"  {hosts.count()} hosts continue an epoch of {max(1, len(self.state.local))}")

    def _save(self) -> None:
        self.state.local = []
        if self.state.step and hosts.count() > 1:  # at the end of an epoch they have been averaged
            values = checkpoint.local_values(self.model)
            self.state.local = [unpack(each) for each in hosts.gather(pack(values))]
        checkpoint.save(self.file if hosts.chief() else None, self.model, self.state)

    def _create_variables(self) -> None:
        """Create the variables that Keras would create in the first step: optimizer slots and compiled metrics.

        Otherwise a checkpoint loaded before that step would find no variables to set, and momentum would restart at 0.
        """
        with self.strategy.scope():
            if getattr(self.model, "optimizers", None) is None and self.model.optimizer is not None:
                self.model.optimizer.build(self.model.trainable_variables)
            if self.model.loss is not None:
                batch = next(iter(self.prepared.validation_batches()))
                few = tf.nest.map_structure(lambda rows: rows[:2], batch)
                self.strategy.run(self.model.test_step, (few,))
            self.model.reset_metrics()

    def _training(self, epoch: int, first_step: int) -> Iterator[Any]:
        return iter(self._distributed(self.prepared.training_batches(epoch, first_step)))

    def _validation(self) -> Iterator[Any]:
        return iter(self._distributed(self.prepared.validation_batches(drop_remainder=self.replicas > 1)))

    def _distributed(self, batches: tf.data.Dataset) -> Any:
        return batches if self.replicas == 1 else self.strategy.experimental_distribute_dataset(batches)

    def _epoch(self) -> Figures:
        """Train the rest of the current epoch; the metrics after its last step."""
        state = self.state
        if state.step == 0:
            self.model.reset_metrics()
        batches = self._training(state.epoch, state.step)
        saved, figures = time.monotonic(), Figures()
        while state.step < self.steps:
            count = min(int(hosts.agree([], [self.timer.steps()])[0]), self.steps - state.step)
            began = time.monotonic()
            answer = self.train(batches, state.epoch * self.steps + state.step, count)
            figures = {name: float(value) for name, value in answer.items()}
            now = time.monotonic()
            self.timer.add(count, now - began)
            state.step += count
            state.seconds += now - began
            self._check_finite(figures)
            rate = self.prepared.batch_size / self.timer.step_seconds
            left = (self.total - state.epoch * self.steps - state.step) * self.timer.step_seconds
            self.meter.step(state.epoch + 1, state.step, figures, rate, left)
            stopped, due = hosts.agree([self.stop()], [now - saved > CHECKPOINT_SECONDS])
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
        return InterruptedRunError(f"stopped at {place}; the same command continues from there")

    def _validated(self) -> Figures:
        self.model.reset_metrics()
        size = min(self.config.batch_size, len(self.prepared.validation))
        count = len(self.prepared.validation) / size
        answer = self.evaluate(self._validation(), 0, math.floor(count) if self.replicas > 1 else math.ceil(count))
        return {name: float(value) for name, value in answer.items()}

    def _rate(self) -> float:
        optimizer = checkpoint.optimizers(self.model)[0]
        return float(schedule.rate(optimizer).value.numpy())

    def _check_finite(self, figures: Figures) -> None:
        for name, value in figures.items():
            if not np.isfinite(value):
                raise TrainingError(
                    f"{name} is {value} at epoch {self.state.epoch + 1}, step {self.state.step}; give a smaller "
                    f"--learning-rate than {self.config.learning_rate:g}, or check the data for broken values"
                )

    def _keep_best(self, figures: Figures) -> None:
        """Keep the weights if the monitored metric is the best so far; without a monitor, the last epoch is best."""
        monitor, state = self.config.monitor, self.state
        if not monitor:
            state.best = state.epoch
            return
        if monitor not in figures:
            raise TrainingError(f"got --monitor {monitor}; expected one of {', '.join(figures)}")
        value = figures[monitor]
        best = state.history[state.best - 1][monitor] if state.best else math.nan
        # The epoch that reaches the target is kept, even if the monitored metric was better before.
        if not state.best or (value > best if target.rises(monitor) else value < best) or self._reached():
            state.best, state.weights = state.epoch, checkpoint.values(self.model)

    def _ends_early(self) -> bool:
        """Whether the run ends before its last epoch."""
        return self._out_of_patience() or self._reached() or self._out_of_time()

    def _out_of_time(self) -> bool:
        """Whether the run has used its `max_minutes`; on several hosts, the chief's clock decides."""
        limit = self.config.max_minutes
        return limit > 0 and hosts.agree([], [self.state.seconds])[0] >= 60 * limit

    def _out_of_patience(self) -> bool:
        """Whether the best epoch lies `patience` epochs back."""
        patience = self.config.patience
        return patience > 0 and self.state.best > 0 and self.state.epoch - self.state.best >= patience

    def _reached(self) -> bool:
        """Whether the last epoch reached the target."""
        return self.target is not None and bool(self.state.history) and self.target.reached(self.state.history[-1])


class _StepTimer:
    """The duration of a step, and how many steps fill a call of CALL_SECONDS."""

    def __init__(self) -> None:
        self.step_seconds, self._calls = math.inf, 0

    def add(self, count: int, seconds: float) -> None:
        self._calls += 1
        now = max(seconds / count, 1e-9)
        # The first call also compiles, so the second one replaces its time; later ones are averaged.
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
    """A compiled function (batches, first, count) -> metrics after `count` steps, the first with number `first`."""
    distributed = strategy.num_replicas_in_sync > 1
    inner = tf.function(step_function, jit_compile=True, autograph=False) if xla else step_function

    def step(batch: Any, number: tf.Tensor) -> dict[str, tf.Tensor]:
        before(number)
        if not distributed:
            return dict(inner(batch))
        answer = strategy.run(inner, (batch,))
        return {name: strategy.reduce("MEAN", value, axis=None) for name, value in answer.items()}

    number = tf.TensorSpec([], tf.int64)
    # Traced once as a function of its own: the loop below then calls it, and the graph holds one copy of the step.
    one = tf.function(step, autograph=False)
    traced = one.get_concrete_function(batches.element_spec, number)  # type: ignore[attr-defined]
    # tf.while_loop needs values of the right shape and dtype before the first step.
    zeros = {name: tf.zeros(s.shape, s.dtype) for name, s in traced.structured_outputs.items()}

    def steps(batches: Any, first: tf.Tensor, count: tf.Tensor) -> dict[str, tf.Tensor]:
        def body(i: tf.Tensor, _: Any) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
            return i + 1, one(next(batches), first + i)

        start = tf.zeros([], tf.int64)
        figures: dict[str, tf.Tensor] = tf.while_loop(lambda i, _: i < count, body, (start, zeros))[1]
        return figures

    many = tf.function(steps, autograph=False).get_concrete_function(batches, number, number)
    return lambda batches, first, count: many(batches, tf.constant(first, tf.int64), tf.constant(count, tf.int64))
