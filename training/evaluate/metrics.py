"""Metrics in NumPy: classification, segmentation, regression, likelihood, and the quality of samples."""

from __future__ import annotations

import numpy as np

from ladle.training.data.dataset import Array

TINY = 1e-7
"""Probabilities are clipped to [TINY, 1 - TINY]: a float32 sigmoid reaches 0 and 1, where the logarithm is infinite."""


def accuracy(predicted: Array, truth: Array) -> float:
    """Share of the class ids [n] that are right."""
    return float(np.mean(predicted == truth))


def top_k(scores: Array, truth: Array, k: int) -> float:
    """Share of the examples whose true class is among the k highest scores [n, classes]; ties count against it."""
    own = np.take_along_axis(scores, truth[:, None].astype(np.int64), axis=1)  # [n, 1]
    return float(np.mean(np.sum(scores >= own, axis=1) <= k))


def cross_entropy(probabilities: Array, truth: Array) -> float:
    """Mean of -log p(true class), in nats; probabilities [n, classes]."""
    own = np.take_along_axis(probabilities, truth[:, None].astype(np.int64), axis=1)
    return float(-np.mean(np.log(np.maximum(own.astype(np.float64), TINY))))


def confusion_matrix(predicted: Array, truth: Array, classes: int) -> Array:
    """int64 [classes, classes]: row the truth, column the prediction; ids of any shape.

    Where the truth is none of the classes (VOID), nothing is counted.
    """
    known = truth.ravel() < classes
    pairs = truth.ravel()[known].astype(np.int64) * classes + predicted.ravel()[known].astype(np.int64)
    counts = np.bincount(pairs, minlength=classes * classes)
    return np.asarray(counts.reshape(classes, classes))


def class_iou(confusion: Array) -> Array:
    """Intersection over union of each class, float64 [classes]; NaN where a class is in neither."""
    both = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - both
    return np.asarray(np.divide(both, union, out=np.full(len(both), np.nan), where=union > 0))


def mean_iou(confusion: Array, background: bool = True) -> float:
    """Mean IoU over the classes that occur; without `background`, class 0 is left out."""
    return float(np.nanmean(class_iou(confusion)[0 if background else 1 :]))


def elbo(image: Array, reconstruction: Array, mean: Array, log_var: Array) -> Array:
    """Evidence lower bound of each image in nats, float64 [n], from one sample of the code.

    E[log p(x|z)] - KL(q(z|x) || N(0, 1)), p Bernoulli with pixels [n, ...] in [0, 1] on both sides, q normal with
    mean and log variance [n, d].
    """
    n = len(image)
    x = image.reshape(n, -1).astype(np.float64)
    p = np.clip(reconstruction.reshape(n, -1).astype(np.float64), TINY, 1 - TINY)
    log_likelihood = np.sum(x * np.log(p) + (1 - x) * np.log1p(-p), axis=1)
    return np.asarray(log_likelihood - kl_divergence(mean, log_var))


def kl_divergence(mean: Array, log_var: Array) -> Array:
    """KL(N(mean, exp log_var) || N(0, 1)) in nats, float64 [n], of [n, d]."""
    mean, log_var = mean.astype(np.float64), log_var.astype(np.float64)
    return np.asarray(-0.5 * np.sum(1 + log_var - mean**2 - np.exp(log_var), axis=1))


def frechet_distance(a: Array, b: Array) -> float:
    """Fréchet distance between normal distributions fitted to two sets of features [n, d] (Dowson, Landau 1982).

    |mean a - mean b|² + trace(A + B - 2 (A B)^½). Each set needs two rows or more.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    covariance_a, covariance_b = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    root = _square_root(covariance_a)
    # (A B)^½ has the eigenvalues of (A^½ B A^½)^½. The latter is symmetric, so eigvalsh applies: real and stable.
    eigenvalues = np.linalg.eigvalsh(root @ covariance_b @ root)
    trace = np.trace(covariance_a) + np.trace(covariance_b) - 2 * np.sum(np.sqrt(np.maximum(eigenvalues, 0)))
    return float(max(np.sum((a.mean(0) - b.mean(0)) ** 2) + trace, 0))


def _square_root(matrix: Array) -> Array:
    """The square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def pairwise_distance(x: Array) -> float:
    """Mean Euclidean distance between different rows of [n, ...]; needs two rows or more."""
    n = len(x)
    flat = x.reshape(n, -1).astype(np.float64)
    squares = np.sum(flat**2, axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * flat @ flat.T, 0))
    np.fill_diagonal(distances, 0)  # rounding leaves a little
    return float(distances.sum() / (n * (n - 1)))


def diversity(samples: Array, real: Array) -> float:
    """Mean distance between samples, divided by that between real images: 1 as diverse, 0 all equal."""
    return pairwise_distance(samples) / pairwise_distance(real)


def covered(class_ids: Array, classes: int, share: float = 0.01) -> int:
    """The number of classes that have at least `share` of the ids [n]."""
    return int(np.sum(np.bincount(class_ids.astype(np.int64), minlength=classes) >= share * len(class_ids)))


def nearest(points: Array, others: Array) -> Array:
    """The distance of each point [n, d] to the nearest of the others [m, d]: float32 [n]."""
    rows = [np.sqrt(((row - others) ** 2).sum(axis=-1).min()) for row in points]
    return np.array(rows, np.float32)


def sliced_wasserstein(a: Array, b: Array, directions: int = 128) -> float:
    """Sliced Wasserstein distance of as many points a as b, [n, d]: the mean over directions fixed by a seed."""
    random = np.random.default_rng(0).normal(size=(a.shape[1], directions))
    unit = random / np.linalg.norm(random, axis=0)
    return float(np.mean(np.abs(np.sort(a @ unit, axis=0) - np.sort(b @ unit, axis=0))))


def squared_error(predicted: Array, truth: Array) -> float:
    """Mean squared error, of any shape."""
    return float(np.mean((predicted.astype(np.float64) - truth.astype(np.float64)) ** 2))


def absolute_error(predicted: Array, truth: Array) -> float:
    """Mean absolute error, of any shape."""
    return float(np.mean(np.abs(predicted.astype(np.float64) - truth.astype(np.float64))))


def r_squared(predicted: Array, truth: Array) -> float:
    """Explained share of the variance; NaN if the truth has no variance."""
    variance = float(np.var(truth.astype(np.float64)))
    return 1 - squared_error(predicted, truth) / variance if variance else float("nan")


def off_normal(codes: Array) -> dict[str, float]:
    """How far the dimensions of codes [n, d] are from N(0, 1): the largest deviation of each moment.

    `mean` and `deviation` (the standard deviation's distance from 1), `skewness`, `excess_kurtosis`, and `correlation`
    of two dimensions; all 0 for a standard normal distribution. If a dimension is constant, the last
    three are missing.
    """
    codes = codes.astype(np.float64)
    mean, deviation = codes.mean(0), codes.std(0)
    figures = {"mean": float(np.abs(mean).max()), "deviation": float(np.abs(deviation - 1).max())}
    if not deviation.all():
        return figures
    scaled = (codes - mean) / deviation
    correlation = scaled.T @ scaled / len(scaled) - np.eye(codes.shape[1])
    return figures | {
        "skewness": float(np.abs(np.mean(scaled**3, axis=0)).max()),
        "excess_kurtosis": float(np.abs(np.mean(scaled**4, axis=0) - 3).max()),
        "correlation": float(np.abs(correlation).max()),
    }


def distinct(points: Array, apart: float) -> int:
    """The number of points [n, d] that lie further than `apart` from all points before them."""
    found: list[Array] = []
    for point in points:
        if all(np.linalg.norm(point - other) > apart for other in found):
            found.append(point)
    return len(found)
