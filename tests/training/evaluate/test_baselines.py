"""What simple methods reach, on data for which the answer is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from ladle import models
from ladle.models._network import VOID
from ladle.training.data.pipeline import Prepared
from ladle.training.evaluate import baselines, functions, headline, metrics
from ladle.training.evaluate.evaluate import evaluate

Ready = Callable[..., tuple[keras.Model, Prepared]]


def test_logistic_regression_separates_what_a_line_separates() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 600)
    x = (np.eye(3)[y] * 4 + random.normal(0, 1, (600, 3)) + 10).astype(np.float32)
    answer = baselines.logistic_regression(x[:400], y[:400], 3)
    assert metrics.accuracy(answer(x[400:]), y[400:]) > 0.95


def test_principal_components_are_the_directions_of_largest_variance() -> None:
    random = np.random.default_rng(0)
    x = (random.normal(0, 1, (500, 4)) * [9, 1, 3, 0.1] + 5).astype(np.float32)
    mean, components = baselines.principal_components(x, 2)
    np.testing.assert_allclose(np.abs(components), np.eye(4)[[0, 2]], atol=0.05)
    np.testing.assert_allclose(mean, 5, atol=1)


def test_otsu_finds_the_gap_between_two_kinds_of_pixels() -> None:
    image = np.array([[[10, 12, 11, 200], [9, 210, 190, 12]]], np.uint8)
    assert baselines.otsu(image).tolist() == [[[False, False, False, True], [False, True, True, False]]]
    assert not baselines.otsu(np.full((1, 3, 3), 7, np.uint8)).any()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lenet5", {"majority class", "logistic regression"}),
        ("sentiment_bow", {"majority class"}),
        ("unet", {"majority class", "Otsu threshold"}),
        ("house_prices", {"mean", "least squares"}),
        ("autoencoder", {"PCA with 2 components"}),
    ],
)
def test_every_headline_has_a_baseline_on_the_same_split(
    ready: Ready, tmp_path: Path, name: str, expected: set[str]
) -> None:
    model, prepared = ready(name)
    live = functions.live(models.get(name), model, prepared.config, prepared.assets)
    simple = evaluate(live, prepared, tmp_path).metrics["baselines"]
    assert set(simple) == expected
    if "logistic regression" in simple:
        assert simple["logistic regression"] > 0.5 > simple["majority class"]
    if "Otsu threshold" in simple:
        assert simple["Otsu threshold"] > simple["majority class"]
    if "least squares" in simple:
        assert simple["mean"] < 0.2 < simple["least squares"]


def test_a_logistic_regression_says_on_how_many_images_of_a_large_set_it_was_fitted(
    ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = ready("lenet5")[1]
    monkeypatch.setattr(baselines, "SMALL", 100)
    simple = baselines.measure(prepared, prepared.test)
    assert simple["logistic regression on 100 images"] > 0.3
    monkeypatch.setattr(baselines, "MOST_PRODUCTS", 100 * 784)
    assert set(baselines.measure(prepared, prepared.test)) == {"majority class"}


def test_pixels_without_a_class_are_not_counted() -> None:
    truth, found = np.array([[0, 1], [VOID, VOID]], np.uint8), np.array([[0, 1], [1, 0]])
    assert metrics.confusion_matrix(found, truth, 2).tolist() == [[1, 0], [0, 1]]


def test_a_cross_validated_headline_is_the_mean_of_the_folds() -> None:
    test: dict[str, Any] = {"test": {"r_squared": 0.908, "squared_error": 7.6}}
    folds = {"count": 5, "r_squared": {"mean": 0.758, "deviation": 0.041, "each": []}}
    entry = headline.card_entry(test, folds)["headline"]
    assert entry == {"name": "r_squared", "value": 0.758, "deviation": 0.041, "split": "folds"}
    assert headline.shown(test["test"], folds) == "r squared 0.758 ± 0.041, 5 folds"
    assert headline.shown(test["test"]) == "r squared 0.908"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"mean_iou": 0.6, "iou": 0.9}, "mean_iou"),
        ({"frechet_distance": 88.0, "squared_error": 0.01}, "squared_error"),
        ({"frechet_distance": 8.0, "diversity": 0.7}, "frechet_distance"),
    ],
)
def test_the_headline_is_what_the_network_is_for(found: dict[str, float], expected: str) -> None:
    assert list(headline.headline(found)) == [expected]
