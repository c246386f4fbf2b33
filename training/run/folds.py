"""k-fold cross-validation: each fold is held out once and measures a network trained on the other folds.

The folds divide the training and validation examples; the test split stays apart. Of the other folds, a share is
validation data again, so the examples that measure a network never choose its best epoch.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ladle.models import Network
from ladle.training.data import Split
from ladle.training.data.pipeline import Prepared, prepare
from ladle.training.errors import UsageError
from ladle.training.evaluate.evaluate import Evaluation
from ladle.training.loop import run_folder

TrainFold = Callable[[Prepared, Path], Evaluation]
"""Trains a new network, from the checkpoint file if it exists, and measures it on the test split of its data."""
Figures = dict[str, float]


def check(prepared: Prepared) -> None:
    """Raise UsageError unless every fold has an example and leaves enough to train on."""
    count, pool = prepared.config.folds, len(prepared.train) + len(prepared.validation)
    if count and not 2 <= count <= pool // 3:
        raise UsageError(f"got folds {count}; expected 0 (off), or 2 to {pool // 3} for {pool} examples")


def fold(network: Network, prepared: Prepared, number: int) -> Prepared:
    """The data with fold `number` (from 0) as the test split. The seed decides which examples are in it."""
    data, config = prepared.dataset, prepared.config
    x = np.concatenate([data.train.x, data.validation.x])
    y = None if data.train.y is None or data.validation.y is None else np.concatenate([data.train.y, data.validation.y])
    order = np.random.default_rng([config.seed, 3]).permutation(len(x))
    parts = np.array_split(order, config.folds)
    rest = np.concatenate([part for i, part in enumerate(parts) if i != number])
    held = max(1, round(len(rest) * len(data.validation) / len(x)))
    train, validation, test = (
        Split(x[rows], None if y is None else y[rows]) for rows in (rest[held:], rest[:held], parts[number])
    )
    return prepare(network, config, dataclasses.replace(data, train=train, validation=validation, test=test))


def run(
    network: Network,
    prepared: Prepared,
    folder: run_folder.RunFolder,
    train_fold: TrainFold,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train and measure all folds; their metrics as in the model card.

    run.json keeps the metrics of finished folds, so an interrupted run continues with the next fold.
    """
    count = prepared.config.folds
    done: list[Figures] = list(folder.entries().get("folds", []))
    for number in range(len(done), count):
        say(f"  fold {number + 1}/{count}")
        home = folder.path / f"fold-{number + 1}"
        result = train_fold(fold(network, prepared, number), home / run_folder.CHECKPOINT)
        done.append(_numbers(result.metrics))
        folder.update(folds=done)
        shutil.rmtree(home, ignore_errors=True)
        say(f"  fold {number + 1}/{count}  " + "  ".join(f"{name} {value:.4g}" for name, value in done[-1].items()))
    total = summary(done)
    say(f"  folds     {shown(total)}")
    return total


def summary(done: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """`count`, and for each metric that all folds have: `mean`, `deviation` (of a sample: n - 1) and `each`."""
    total: dict[str, Any] = {"count": len(done)}
    for name in done[0]:
        if all(name in figures for figures in done):
            each = np.array([figures[name] for figures in done])
            total[name] = {"mean": float(each.mean()), "deviation": float(each.std(ddof=1)), "each": each.tolist()}
    return total


def shown(total: Mapping[str, Any]) -> str:
    """A summary in words: 'squared_error 12.3 ± 2.1'."""
    figures = {name: value for name, value in total.items() if isinstance(value, Mapping)}
    return "  ".join(f"{name} {value['mean']:.4g} ± {value['deviation']:.2g}" for name, value in figures.items())


def _numbers(metrics: Mapping[str, Any]) -> Figures:
    return {k: float(v) for k, v in metrics.items() if isinstance(v, int | float) and math.isfinite(v)}
