from __future__ import annotations

import math

import numpy as np
import pytest

from ladle.training.evaluate import metrics

SCORES = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4], [0.2, 0.5, 0.3]])
TRUTH = np.array([0, 2, 2, 0])


def test_accuracy_counts_right_answers() -> None:
    assert metrics.accuracy(SCORES.argmax(1), TRUTH) == 0.5


def test_top_k_counts_the_truth_among_the_best_scores() -> None:
    assert metrics.top_k(SCORES, TRUTH, 1) == 0.5
    assert metrics.top_k(SCORES, TRUTH, 2) == 0.75
    assert metrics.top_k(SCORES, TRUTH, 3) == 1.0
    assert metrics.top_k(np.ones((1, 4)), np.array([0]), 2) == 0.0  # equal scores prefer nothing


def test_cross_entropy_is_in_nats() -> None:
    wanted = -(math.log(0.7) + math.log(0.4) * 2 + math.log(0.2)) / 4
    assert metrics.cross_entropy(SCORES, TRUTH) == pytest.approx(wanted)
    assert math.isfinite(metrics.cross_entropy(np.array([[1.0, 0.0]]), np.array([1])))


def test_confusion_has_truth_in_rows() -> None:
    confusion = metrics.confusion_matrix(np.array([0, 1, 2, 1]), TRUTH, 3)
    assert confusion.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 1]]


def test_iou_of_two_masks() -> None:
    truth = np.array([[[0, 0, 1], [0, 1, 1]]], np.uint8)
    predicted = np.array([[[0, 1, 1], [0, 0, 1]]])
    confusion = metrics.confusion_matrix(predicted, truth, 3)
    each = metrics.class_iou(confusion)
    assert each[:2].tolist() == [2 / 4, 2 / 4]
    assert math.isnan(each[2])  # in neither
    assert metrics.mean_iou(confusion) == 0.5
    assert metrics.mean_iou(confusion, background=False) == 0.5


def test_kl_divergence_of_known_normals() -> None:
    mean, log_var = np.array([[0.0, 0.0], [1.0, 2.0]]), np.array([[0.0, 0.0], [0.0, math.log(4)]])
    wanted = [0.0, 0.5 * (1 + 4) + 0.5 * (4 - 1 - math.log(4))]
    np.testing.assert_allclose(metrics.kl_divergence(mean, log_var), wanted)


def test_elbo_is_bernoulli_likelihood_less_divergence() -> None:
    image = np.array([[1.0, 0.0], [0.25, 1.0]], np.float32)
    p = np.array([[0.5, 0.5], [0.25, 1.0]], np.float32)
    entropy = 0.25 * math.log(0.25) + 0.75 * math.log(0.75)
    bound = metrics.elbo(image, p, np.array([[0.0], [1.0]]), np.zeros((2, 1)))
    np.testing.assert_allclose(bound, [2 * math.log(0.5), entropy - 0.5], atol=1e-6)


def test_frechet_distance_of_normals_on_a_line() -> None:
    # (3 - 1)² + (2 - 1)² for means 1 and 3, deviations 1 and 2.
    base = np.random.default_rng(0).normal(size=10_000)
    base = ((base - base.mean()) / base.std(ddof=1))[:, None]
    assert metrics.frechet_distance(base + 1, 2 * base + 3) == pytest.approx(5.0)
    assert metrics.frechet_distance(base, base) == pytest.approx(0.0, abs=1e-9)


def test_frechet_distance_sees_correlation_and_order_does_not_matter() -> None:
    random = np.random.default_rng(1)
    a = random.normal(size=(5000, 3))
    b = a @ np.array([[1.0, 0.9, 0], [0, 0.4, 0], [0, 0, 1]])
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    eigenvalues = np.linalg.eigvals(covariances[0] @ covariances[1]).real
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() + sum(map(np.trace, covariances)) - 2 * np.sqrt(eigenvalues).sum()
    assert metrics.frechet_distance(a, b) == pytest.approx(wanted)
    assert metrics.frechet_distance(b, a) == pytest.approx(wanted)
    assert wanted > 0.1


def test_frechet_distance_accepts_features_without_variance() -> None:
    assert metrics.frechet_distance(np.ones((4, 2)), np.zeros((4, 2))) == pytest.approx(2.0)


def test_pairwise_distance_is_the_mean_over_pairs() -> None:
    x = np.array([[0, 0], [3, 4], [0, 0]], np.uint8)
    assert metrics.pairwise_distance(x) == pytest.approx((5 + 0 + 5) / 3)


def test_diversity_shows_a_collapse() -> None:
    random = np.random.default_rng(0)
    real = random.integers(0, 256, (64, 8, 8, 1), np.uint8)
    same = np.repeat(real[:1], 64, axis=0)
    assert metrics.diversity(real, real) == 1.0
    assert metrics.diversity(same, real) == 0.0


def test_covered_counts_classes_with_a_share() -> None:
    assert metrics.covered(np.array([0] * 99 + [1]), 3) == 2
    assert metrics.covered(np.array([0] * 99 + [1]), 3, share=0.02) == 1


def test_errors_of_a_regression() -> None:
    predicted, truth = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0])
    assert metrics.squared_error(predicted, truth) == pytest.approx(5 / 3)
    assert metrics.absolute_error(predicted, truth) == 1.0
    assert metrics.r_squared(predicted, truth) == pytest.approx(1 - (5 / 3) / (2 / 3))
    assert math.isnan(metrics.r_squared(predicted, np.ones(3)))


def test_moments_separate_normal_codes_from_others() -> None:
    random = np.random.default_rng(0)
    normal = random.normal(size=(20_000, 3))
    assert max(metrics.off_normal(normal).values()) < 0.1
    others = normal.copy()
    others[:, 1] = random.exponential(size=20_000) + 1
    others[:, 2] = 0.5 * others[:, 0]
    off = metrics.off_normal(others)
    assert off["mean"] == pytest.approx(2, abs=0.05)
    assert off["deviation"] == pytest.approx(0.5, abs=0.02)
    assert off["skewness"] == pytest.approx(2, abs=0.2)
    assert off["excess_kurtosis"] == pytest.approx(6, abs=1.5)
    assert off["correlation"] == pytest.approx(1, abs=1e-6)
    assert set(metrics.off_normal(np.zeros((10, 2)))) == {"mean", "deviation"}


def test_distinct_points_are_counted_once() -> None:
    assert metrics.distinct(np.array([[0.0, 0.0], [0.1, 0.0], [5.0, 5.0], [5.0, 4.9]]), apart=1.0) == 2
