"""What the simplest methods reach on the same split: every figure stands beside one of these.

majority class       the class that is most frequent in training, for every example or pixel
logistic regression  one softmax layer on the pixels of at most 5,000 training images
mean, least squares  the mean of the training targets; a linear function of the columns
PCA                  as many principal components as an auto-encoder's code has numbers
Otsu                 the grey level that separates an image into two parts of least variance, for two classes of pixels
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ladle.models import Task
from ladle.training.data.dataset import Array
from ladle.training.data.pipeline import Part, Prepared
from ladle.training.evaluate import metrics

SMALL, WIDE = 5_000, 4_096
"""Most training examples, and most numbers in one, for a logistic regression and for PCA."""
STEPS = 150
MOST_PRODUCTS = 200_000_000
"""Examples times pixels times classes of a logistic regression: CIFAR-10 takes seconds, CIFAR-100 would take a minute.
"""
PENALTY = 1e-4
LEVELS = 256
ROWS = 512
"""Examples that are held as float32 at once."""


def measure(prepared: Prepared, part: Part) -> dict[str, float]:
    """What each baseline reaches on `part` in the task's metric, by the baseline's name; empty for samples.

    Accuracy for classes, mean IoU for masks, R² for values, mean squared error for reconstructions.
    """
    return _BY_TASK[prepared.task](prepared, part) if prepared.task in _BY_TASK else {}


def _classes(prepared: Prepared, part: Part) -> dict[str, float]:
    truth, of_training = part.targets(), prepared.train.targets(prepared.chosen())
    majority = int(np.bincount(of_training.astype(np.int64)).argmax())
    found = {"majority class": float(np.mean(truth == majority))}
    rows, width, classes = prepared.chosen()[:SMALL], np.prod(prepared.train.x.shape[1:]), len(prepared.assets.labels)
    if prepared.dataset.kind == "images" and width <= WIDE and len(rows) * width * classes <= MOST_PRODUCTS:
        answer = logistic_regression(_flat(prepared.train.inputs(rows)), of_training[: len(rows)], max(2, classes))
        predicted = np.concatenate([answer(_flat(part.inputs(rows))) for rows in _slices(len(part))])
        name = "logistic regression" + (f" on {SMALL:,} images" if len(of_training) > SMALL else "")
        found[name] = metrics.accuracy(predicted, truth)
    return found


def logistic_regression(x: Array, y: Array, classes: int) -> Callable[[Array], Array]:
    """Fit softmax(x·w + b) to classes y [n] of rows x float32 [n, d]; a function from rows to class ids.

    Minimises the mean cross-entropy with an L2 penalty of PENALTY/2 on w by Nesterov's accelerated descent (1983), in
    STEPS steps of the length that the curvature allows: deterministic, without a rate to choose.
    """
    mean = x.mean(axis=0)

    def extended(rows: Array) -> Array:
        return np.concatenate([rows - mean, np.ones((len(rows), 1), np.float32)], axis=1)  # [n, d + 1]

    data, wanted = extended(x), np.eye(classes, dtype=np.float32)[y.astype(np.int64)]
    # The Hessian of softmax cross-entropy is at most half the covariance; its largest value by power iteration.
    direction = np.ones(data.shape[1], np.float32)
    for _ in range(20):
        direction = data.T @ (data @ direction)
        curvature = float(np.linalg.norm(direction))
        direction /= max(curvature, 1e-12)
    rate = 1 / (0.5 * curvature / len(data) + PENALTY)
    w = ahead = np.zeros((data.shape[1], classes), np.float32)
    for step in range(STEPS):
        scores = data @ ahead
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        gradient = data.T @ (p / p.sum(axis=1, keepdims=True) - wanted) / len(data) + PENALTY * ahead
        before, w = w, (ahead - rate * gradient).astype(np.float32)
        ahead = w + step / (step + 3) * (w - before)
    return lambda rows: np.asarray((extended(rows) @ w).argmax(axis=1))


def _values(prepared: Prepared, part: Part) -> dict[str, float]:
    x, y = (np.asarray(a, np.float64) for a in (prepared.train.inputs(), prepared.train.targets()))
    truth = np.asarray(part.targets(), np.float64)
    if not truth.size or not np.var(truth):
        return {}

    found = {"mean": metrics.r_squared(np.full_like(truth, y.mean()), truth)}
    if any(prepared.dataset.categories.values()) or np.isnan(x).any():
        return found  # a linear function of categories and gaps needs choices of its own

    def with_ones(rows: Array) -> Array:
        return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)

    line = np.linalg.lstsq(with_ones(x), y, rcond=None)[0]
    found["least squares"] = metrics.r_squared(with_ones(np.asarray(part.inputs(), np.float64)) @ line, truth)
    return found


def _reconstructions(prepared: Prepared, part: Part) -> dict[str, float]:
    dims, width = int(getattr(prepared.config, "latent_dim", 0)), int(np.prod(prepared.train.x.shape[1:]))
    x = _flat(prepared.train.inputs(prepared.chosen()[:SMALL]))
    if not 0 < dims < min(len(x), width) or width > WIDE:
        return {}
    mean, components = principal_components(x, dims)
    errors = []
    for rows in _slices(len(part)):
        image = _flat(part.inputs(rows))
        back = (image - mean) @ components.T @ components + mean
        errors.append(np.mean((back - image) ** 2, axis=1))
    return {f"PCA with {dims} components": float(np.mean(np.concatenate(errors)))}


def principal_components(x: Array, count: int) -> tuple[Array, Array]:
    """Mean float32 [d] and the `count` directions of largest variance, float32 [count, d], of rows x [n, d]."""
    mean = x.mean(axis=0)
    _, vectors = np.linalg.eigh((x - mean).T @ (x - mean))  # ascending
    return mean, np.asarray(vectors[:, : -count - 1 : -1].T, np.float32)


def _masks(prepared: Prepared, part: Part) -> dict[str, float]:
    classes = len(prepared.assets.labels)
    counts = np.bincount(np.asarray(prepared.train.targets()).ravel(), minlength=classes)[:classes]
    truth = part.targets()
    majority = np.full(truth.shape, int(counts.argmax()), np.uint8)
    found = {"majority class": metrics.mean_iou(metrics.confusion_matrix(majority, truth, classes))}
    if classes == 2:
        # Whether objects are light or dark is learnt from the training images.
        of_training = otsu(_grey(prepared.train, slice(0, ROWS)))
        trained = prepared.train.targets(slice(0, ROWS))
        light, dark = (
            metrics.mean_iou(metrics.confusion_matrix(each, trained, classes)) for each in (of_training, ~of_training)
        )
        objects = otsu(_grey(part, slice(None)))
        objects = objects if light >= dark else ~objects
        found["Otsu threshold"] = metrics.mean_iou(metrics.confusion_matrix(objects, truth, classes))
    return found


def otsu(images: Array) -> Array:
    """The pixels above each image's own threshold, bool [n, h, w]; images uint8 [n, h, w] (Otsu 1979)."""
    found = np.zeros(images.shape, bool)
    for i, image in enumerate(images):
        counts = np.bincount(image.ravel(), minlength=LEVELS).astype(np.float64)
        weight, moment = np.cumsum(counts), np.cumsum(counts * np.arange(LEVELS))
        rest = weight[-1] - weight
        with np.errstate(divide="ignore", invalid="ignore"):
            between = weight * rest * (moment / weight - (moment[-1] - moment) / rest) ** 2
        between = np.nan_to_num(between)  # NaN where one part is empty
        found[i] = image > between.argmax() if between.any() else False
    return found


def _grey(part: Part, rows: slice) -> Array:
    return np.asarray(np.rint(255 * part.inputs(rows).mean(axis=-1)).astype(np.uint8))  # [n, h, w]


def _flat(inputs: Array) -> Array:
    return inputs.reshape(len(inputs), -1)


def _slices(count: int) -> list[slice]:
    return [slice(start, start + ROWS) for start in range(0, count, ROWS)]


_BY_TASK: dict[Task, Callable[[Any, Any], dict[str, float]]] = {
    "classify": _classes,
    "sentiment": _classes,
    "segment": _masks,
    "regress": _values,
    "reconstruct": _reconstructions,
}
