"""Training in stages: the loop trains one part of the network after another, each with its own checkpoint.

When a stage freezes the first part of the network, that part's outputs do not change. They are computed once for all
examples, and the loop trains the rest on them as on any data.
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
"""Examples in one call of the frozen part."""

Fit = Callable[[keras.Model, Prepared, Path, int], State]
"""Runs the loop: model, data, checkpoint file, epochs of the earlier stages."""
Say = Callable[[str], None]


def run(
    network: Network, model: keras.Model, prepared: Prepared, file: Path, fit: Fit, say: Say
) -> tuple[State, dict[str, Any]]:
    """Train all stages. Returns the final state, its history over all stages, and the model card's entry for them.

    file  checkpoint of the last stage; the earlier stages have theirs beside it. A stage whose checkpoint says that it
          is complete is not trained again
    """
    stages = network.stages(prepared.config)
    if not stages:
        return fit(model, prepared, file, 0), {}
    last = max(i for i, stage in enumerate(stages) if stage.epochs)
    total = State()
    entries: list[dict[str, Any]] = []
    for i, stage in enumerate(stages):
        with model.distribute_strategy.scope():
            words = stage.begin(model)
        say(f"  stage {i + 1}/{len(stages)} {stage.name}: {words}")
        entries.append({"stage": i + 1, "name": stage.name, "did": words, "epochs": stage.epochs})
        if not stage.epochs:
            continue
        config = dataclasses.replace(prepared.config, epochs=stage.epochs, learning_rate=stage.learning_rate)
        if config.max_minutes:  # 0 would mean no limit: a stage that finds no time left still trains for an epoch
            config = dataclasses.replace(config, max_minutes=max(config.max_minutes - total.seconds / 60, 1e-6))
        part = dataclasses.replace(prepared, config=config)
        state = _stage(model, part, stage, file if i == last else file.with_name(f"stage-{i + 1}.npz"), total, fit, say)
        entries[-1] |= {"seconds": round(state.seconds, 1), "learning_rate": stage.learning_rate}
        if state.best:
            entries[-1]["figures"] = {k: v for k, v in state.history[state.best - 1].items() if k.startswith("val_")}
        total = _joined(total, state)
    return total, {"stages": entries}


def _stage(
    model: keras.Model, prepared: Prepared, stage: Stage, file: Path, before: State, fit: Fit, say: Say
) -> State:
    """Train one stage; its own state."""
    # Augmented images differ in every epoch, so their features cannot be kept.
    if stage.split is None or prepared.config.augment or prepared.config.elastic:
        return fit(model, prepared, file, before.epoch)
    with model.distribute_strategy.scope():
        frozen, rest = stage.split(model)
    if file.exists():
        done = checkpoint.load_best(file, rest)
        if done.epoch == stage.epochs:
            say(f"  stage complete, loaded from {file}")
            return done
    count = prepared.train_size + len(prepared.validation)
    say(f"  features  computing those of {count:,} examples once, with the frozen layers ...")
    started = time.monotonic()
    features = _features(frozen, prepared)
    spent = time.monotonic() - started
    say(f"  features  {clock(spent)}")
    before.seconds += spent
    return fit(rest, features, file, before.epoch)


def _joined(before: State, state: State) -> State:
    """The state after both stages: epochs and seconds of the second count on from the first."""
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


def _features(frozen: keras.Model, prepared: Prepared) -> Prepared:
    """The data with each example in use replaced by the frozen part's output, float32."""
    any_count = tf.TensorSpec([None, *frozen.input_shape[1:]], tf.float32)
    answer = tf.function(lambda x: tf.cast(frozen(x, training=False), tf.float32), [any_count], autograph=False)

    def features(part: Part, rows: np.ndarray) -> Part:
        made = [answer(part.inputs(rows[i : i + ROWS])).numpy() for i in range(0, len(rows), ROWS)]
        y = None if part.y is None else tf.constant(part.targets(rows))
        return Part(tf.constant(np.concatenate(made)), y)

    validation = features(prepared.validation, np.arange(len(prepared.validation)))
    config = dataclasses.replace(prepared.config, train_limit=0)
    # The loop shuffles rows by the seed. Storing row i of that order's inverse here makes each epoch visit the examples
    # in the order in which it would visit the images, so both ways give the same weights.
    order = np.random.default_rng([config.seed, 0]).permutation(prepared.train_size)
    rows = prepared.chosen()[np.argsort(order)]
    train = features(prepared.train, rows)
    return dataclasses.replace(prepared, config=config, train=train, validation=validation)
