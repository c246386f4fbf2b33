"""Picks the real inputs of an export: parity inputs, on which two engines must agree, and samples with true answers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import keras
import numpy as np

from ladle.models import Network, Signature
from ladle.training.data.dataset import Array
from ladle.training.data.pipeline import Prepared
from ladle.training.export.export import PARITY_INPUTS, Samples
from ladle.training.export.requests import columns

SAMPLES = 8
"""Samples exported with a model, at most."""
SMALL = 64
"""Height and width in pixels of parity inputs for networks that take images of any size."""


def parity_inputs(network: Network, model: keras.Model, prepared: Prepared) -> dict[str, Array]:
    """PARITY_INPUTS real inputs of serving_default by name, from the test split first, then from the others.

    A network whose input is noise gets seeded noise. A network for images of any size gets the top left corner of its
    images. A data set with fewer examples is repeated.
    """
    spec = network.signatures(model, prepared.config, prepared.assets)["serving_default"].inputs
    if network.takes == "table":
        return _columns(network, model, prepared)
    name, tensor = next(iter(spec.items()))
    if name not in ("image", "tokens", "x"):
        noise = np.random.default_rng(prepared.config.seed).standard_normal((PARITY_INPUTS, *tensor.shape[1:]))
        return {name: noise.astype(np.float32)}
    parts = [part.inputs(slice(0, PARITY_INPUTS)) for part in (prepared.test, prepared.validation, prepared.train)]
    inputs = np.concatenate(parts)
    inputs = np.concatenate([inputs] * math.ceil(PARITY_INPUTS / len(inputs)))[:PARITY_INPUTS]
    if name == "image" and tensor.shape[1] is None:
        inputs = inputs[:, :SMALL, :SMALL]
    return {name: inputs}


def training_inputs(
    network: Network, signatures: Mapping[str, Signature], prepared: Prepared, count: int
) -> dict[str, Array]:
    """Up to `count` training examples as inputs of serving_default by name; seeded noise where the input is noise."""
    default = signatures["serving_default"]
    name, tensor = next(iter(default.inputs.items()))
    rows = np.sort(prepared.chosen()[:count])
    if network.takes == "table":
        [step] = default.before
        return columns(step.described, prepared.train.inputs(rows))
    if name not in ("image", "tokens", "x"):
        noise = np.random.default_rng(prepared.config.seed).standard_normal((count, *tensor.shape[1:]))
        return {name: noise.astype(np.float32)}
    return {name: prepared.train.inputs(rows)}


def _columns(network: Network, model: keras.Model, prepared: Prepared) -> dict[str, Array]:
    """PARITY_INPUTS rows by column; missing numbers, unknown categories and extremes come in the last of them."""
    [step] = network.signatures(model, prepared.config, prepared.assets)["serving_default"].before
    rows = np.concatenate([part.inputs(slice(0, PARITY_INPUTS)) for part in (prepared.test, prepared.train)])
    rows = np.concatenate([rows] * math.ceil(PARITY_INPUTS / len(rows)))[:PARITY_INPUTS].copy()
    rows[-1], rows[-2] = np.nan, 0
    for i, name in enumerate(step.described["columns"]):
        if step.described["categories"][name]:
            rows[-1, i] = -1
    return columns(step.described, rows)


def samples(prepared: Prepared) -> Samples:
    """Up to SAMPLES real test inputs with their true answers; every class in turn if the data have classes."""
    test, labels = prepared.dataset.test, prepared.assets.labels
    rows = np.arange(len(test))
    classes = prepared.task in ("classify", "sentiment")
    if classes:
        truth = np.asarray(test.y)
        first = [np.flatnonzero(truth == c)[:SAMPLES] for c in range(len(labels))]
        rows = np.array([r for i in range(SAMPLES) for found in first for r in found[i : i + 1]])
    if is_table := prepared.dataset.kind == "table":  # JSON has no NaN for a missing number
        rows = rows[np.isfinite(np.asarray(test.x)[rows]).all(axis=1)]
    rows = rows[:SAMPLES]
    if is_table and classes:
        return Samples(
            rows=np.asarray(test.x)[rows],
            columns=prepared.dataset.columns or (),
            labels=tuple(labels[int(y)] for y in np.asarray(test.y)[rows]),
        )
    names = tuple(labels[int(test.y[row])] for row in rows) if classes and test.y is not None else ()
    if prepared.dataset.kind == "text":
        return Samples(texts=tuple(test.x[row].decode(errors="replace") for row in rows), labels=names)
    if is_table:
        values = None if test.y is None else np.asarray(test.y)[rows]
        return Samples(rows=np.asarray(test.x)[rows], values=values, columns=prepared.dataset.columns or ())
    if prepared.dataset.kind == "points":  # the network takes noise; points are what it answers
        return Samples(rows=np.zeros((0, 2), np.float32))
    masks = np.asarray(test.y)[rows] if prepared.task == "segment" else None
    return Samples(images=np.asarray(test.x)[rows], labels=names, masks=masks)
