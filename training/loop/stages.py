"""Training in stages: each trains its part of the network by the one loop, from a checkpoint of its own.

Where a stage leaves the first part of the network as it is, what that part makes of each example is computed once and
kept; the loop then trains the rest on it as on any data.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ladle.models import Network
from ladle.models._network import Stage
from ladle.training.data.pipeline import Part, Prepared
from ladle.training.loop import checkpoint
from ladle.training.loop.checkpoint import State
from ladle.training.loop.progress import clock

ROWS = 64
"""Examples that the frozen part is given at once."""

Fit = Callable[[keras.Model, Prepared, Path, int], State]
"""The one loop: model, data, checkpoint, epochs of the stages before."""
Say = Callable[[str], None]


def run(
    network: Network, model: keras.Model, prepared: Prepared, file: Path, fit: Fit, say: Say
) -> tuple[State, dict[str, Any]]:
    """Train all stages; the state at the end, with the epochs of all in its history, and what the card says of them.

    file  checkpoint of the last stage; those before it have their own beside it. A stage that one of them says is over
          is not trained again
    """
    stages = network.stages(prepared.config)
    if not stages:
        return fit(model, prepared, file, 0), {}
    last = max(i for i, stage in enumerate(stages) if stage.epochs)
    total = State()
    told: list[dict[str, Any]] = []
    for i, stage in enumerate(stages):
        with model.distribute_strategy.scope():
            words = stage.begin(model)
        say(f"  stage {i + 1}/{len(stages)} {stage.name}: {words}")
        told.append({"stage": i + 1, "name": stage.name, "did": words, "epochs": stage.epochs})
        if not stage.epochs:
            continue
        config = dataclasses.replace(prepared.config, epochs=stage.epochs, learning_rate=stage.learning_rate)
        part = dataclasses.replace(prepared, config=config)
        state = _one(model, part, stage, file if i == last else file.with_name(f"stage-{i + 1}.npz"), total, fit, say)
        told[-1] |= {"seconds": round(state.seconds, 1), "learning_rate": stage.learning_rate}
        if state.best:
            told[-1]["figures"] = {k: v for k, v in state.history[state.best - 1].items() if k.startswith("val_")}
        total = _joined(total, state)
    return total, {"stages": told}


def _one(model: keras.Model, prepared: Prepared, stage: Stage, file: Path, before: State, fit: Fit, say: Say) -> State:
    """One stage; its own state."""
    if stage.split is None or prepared.config.augment or prepared.config.elastic:
        return fit(model, prepared, file, before.epoch)
    with model.distribute_strategy.scope():
        frozen, rest = stage.split(model)
    if file.exists():
        done = checkpoint.load_best(file, rest)
        if done.epoch == stage.epochs:
            say(f"  stage is over, from {file}")
            return done
    count = prepared.train_size + len(prepared.validation)
    say(f"  features  of {count:,} examples, by the frozen layers, once ...")
    started = time.monotonic()
    kept = _computed(frozen, prepared)
    spent = time.monotonic() - started
    say(f"  features  {clock(spent)}")
    before.seconds += spent
    return fit(rest, kept, file, before.epoch)


def _joined(before: State, state: State) -> State:
    """The state after both, epochs and seconds counted on."""
    history = [
        {**row, "epoch": row["epoch"] + before.epoch, "seconds": row["seconds"] + before.seconds}
        for row in state.history
    ]
    return State(
        epoch=before.epoch + state.epoch,
        seconds=before.seconds + state.seconds,
        history=[*before.history, *history],
        best=before.epoch + state.best if state.best else 0,
        weights=state.weights,
    )


def _computed(frozen: keras.Model, prepared: Prepared) -> Prepared:
    """The training examples in use and the validation examples as the frozen part gives them, float32."""
    any_count = tf.TensorSpec([None, *frozen.input_shape[1:]], tf.float32)
    answer = tf.function(lambda x: tf.cast(frozen(x, training=False), tf.float32), [any_count], autograph=False)

    def features(part: Part, rows: np.ndarray) -> Part:
        made = [answer(part.inputs(rows[i : i + ROWS])).numpy() for i in range(0, len(rows), ROWS)]
        y = None if part.y is None else tf.constant(part.targets(rows))
        return Part(tf.constant(np.concatenate(made)), y)

    validation = features(prepared.validation, np.arange(len(prepared.validation)))
    config = dataclasses.replace(prepared.config, train_limit=0)
    # Placed so that each epoch's order is that of the examples they are made of.
    order = np.random.default_rng([config.seed, 0]).permutation(prepared.train_size)
    rows = prepared.chosen()[np.argsort(order)]
    train = features(prepared.train, rows)
    return dataclasses.replace(prepared, config=config, train=train, validation=validation)
