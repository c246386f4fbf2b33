"""k-fold cross-validation: each fold is held out once, and measured by a network that learned from the others.

Training and validation examples are dealt out among the folds; the test split stays apart. Of what a fold leaves, a
share goes to validation as before, so that nothing was chosen by the examples that measure.
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

Teach = Callable[[Prepared, Path], Evaluation]
"""Trains a network of its own, from a checkpoint if it is there, and measures it on the test split it is given."""
Figures = dict[str, float]


def check(prepared: Prepared) -> None:
    """UsageError unless each fold has an example, and leaves some to learn from."""
    count, pool = prepared.config.folds, len(prepared.train) + len(prepared.validation)
    if count and not 2 <= count <= pool // 3:
        raise UsageError(f"folds is {count}; wanted is 0 for none, or from 2 to {pool // 3} of {pool} examples")


def fold(network: Network, prepared: Prepared, number: int) -> Prepared:
    """The data with fold `number`, from 0, as the test split; dealt out by the seed."""
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
    network: Network, prepared: Prepared, folder: run_folder.RunFolder, teach: Teach, say: Callable[[str], None]
) -> dict[str, Any]:
    """Train and measure all folds; their figures as the model card has them.

    run.json keeps those that are done, so that an interrupted run goes on with the next one.
    """
    count = prepared.config.folds
    done: list[Figures] = list(folder.told().get("folds", []))
    for number in range(len(done), count):
        say(f"  fold {number + 1}/{count}")
        home = folder.path / f"fold-{number + 1}"
        result = teach(fold(network, prepared, number), home / run_folder.CHECKPOINT)
        done.append(_numbers(result.metrics))
        folder.tell(folds=done)
        shutil.rmtree(home, ignore_errors=True)
        say(f"  fold {number + 1}/{count}  " + "  ".join(f"{name} {value:.4g}" for name, value in done[-1].items()))
    told = summary(done)
    say(f"  folds     {shown(told)}")
    return told


def summary(done: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """`count`, and for each figure that all folds have `mean`, `deviation` (of a sample: n - 1) and `each`."""
    told: dict[str, Any] = {"count": len(done)}
    for name in done[0]:
        if all(name in figures for figures in done):
            each = np.array([figures[name] for figures in done])
            told[name] = {"mean": float(each.mean()), "deviation": float(each.std(ddof=1)), "each": each.tolist()}
    return told


def shown(told: Mapping[str, Any]) -> str:
    """'squared_error 12.3 ± 2.1'."""
    figures = {name: value for name, value in told.items() if isinstance(value, Mapping)}
    return "  ".join(f"{name} {value['mean']:.4g} ± {value['deviation']:.2g}" for name, value in figures.items())


def _numbers(metrics: Mapping[str, Any]) -> Figures:
    return {k: float(v) for k, v in metrics.items() if isinstance(v, int | float) and math.isfinite(v)}
