from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from ladle import models
from ladle.clients.web.repository import REPORTS as SHOWN
from ladle.training.data.pipeline import Prepared
from ladle.training.evaluate import functions, metrics
from ladle.training.evaluate.evaluate import Evaluation, draw, evaluate
from ladle.training.report import pictures, report
from ladle.training.run.snapshot import snapshot

Ready = Callable[..., tuple[keras.Model, Prepared]]


def measured(ready: Ready, name: str, repository: Path, **overrides: object) -> tuple[Prepared, Evaluation]:
    model, prepared = ready(name, **overrides)
    live = functions.live(models.get(name), model, prepared.config, prepared.assets)
    return prepared, evaluate(live, prepared, repository)


def test_a_classifier_is_measured_on_all_of_the_test_split(ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready("lenet5", count=600)  # more than one call's rows
    live = functions.live(models.get("lenet5"), model, prepared.config, prepared.assets)
    result = evaluate(live, prepared, tmp_path)
    logits = model(prepared.test.inputs(), training=False).numpy()
    truth = prepared.dataset.test.y
    assert result.metrics["accuracy"] == np.mean(logits.argmax(1) == truth)
    assert result.metrics["top_3_accuracy"] == metrics.top_k(logits, truth, 3)
    assert result.metrics["cross_entropy"] == pytest.approx(
        float(keras.losses.SparseCategoricalCrossentropy(from_logits=True)(truth, logits)), rel=1e-5
    )
    assert len(result.answers["class_id"]) == len(prepared.test) == 120


def test_sentiment_is_measured_in_two_classes(ready: Ready, tmp_path: Path) -> None:
    prepared, result = measured(ready, "sentiment_lstm", tmp_path)
    assert set(result.metrics) == {"accuracy", "cross_entropy", "baselines"}
    assert result.answers["probabilities"].shape == (len(prepared.test), 2)


def test_segmentation_has_iou_with_and_without_background(ready: Ready, tmp_path: Path) -> None:
    prepared, result = measured(ready, "unet", tmp_path, count=60)
    each = result.metrics["class_iou"]
    assert list(each) == ["background", "blob"]
    assert result.metrics["iou"] == each["blob"]
    assert result.metrics["mean_iou"] == pytest.approx((each["background"] + each["blob"]) / 2)
    assert result.answers["class_map"].shape == prepared.dataset.test.y.shape  # type: ignore[union-attr]


def test_a_variational_autoencoder_has_an_elbo_and_names_the_likelihood(ready: Ready, tmp_path: Path) -> None:
    _, result = measured(ready, "vae", tmp_path)
    assert result.metrics["elbo"] < 0
    assert result.metrics["likelihood"].startswith("Bernoulli")
    assert 0 < result.metrics["squared_error"] < 1


def test_a_denoising_autoencoder_is_compared_with_the_noisy_images(ready: Ready, tmp_path: Path) -> None:
    _, result = measured(ready, "denoising_autoencoder", tmp_path)
    assert result.metrics["corruption"] == "normal noise of standard deviation 0.3"
    # Of pixels that are mostly black, about half the noise is cut off.
    assert 0.03 < result.metrics["corrupted_squared_error"] < 0.09
    assert 0 < result.metrics["mended_squared_error"] < 1
    _, plain = measured(ready, "autoencoder", tmp_path)
    assert "mended_squared_error" not in plain.metrics


def test_codes_are_compared_with_normal_ones(ready: Ready, tmp_path: Path) -> None:
    prepared, result = measured(ready, "adversarial_autoencoder", tmp_path)
    model, _ = ready("adversarial_autoencoder")
    codes = model.encoder(prepared.test.inputs()).numpy()
    assert result.metrics["code_off_normal"]["mean"] == pytest.approx(float(np.abs(codes.mean(0)).max()), rel=1e-4)


def test_a_walk_through_the_latent_space_has_the_codes_of_four_classes_at_its_corners(
    ready: Ready, tmp_path: Path
) -> None:
    model, prepared = ready("autoencoder")
    live = functions.live(models.get("autoencoder"), model, prepared.config, prepared.assets)
    walk = evaluate(live, prepared, tmp_path).answers["walk"]
    labels = prepared.dataset.test.y
    assert labels is not None
    first = sorted({int(label): place for place, label in reversed(list(enumerate(labels)))}.values())[:4]
    corners = live("serving_default", image=prepared.test.inputs(np.array(first)))["reconstruction"]
    assert (walk.shape, walk.dtype) == ((64, 28, 28, 1), np.uint8)
    np.testing.assert_allclose(walk[[0, 7, 56, 63]] / 255, corners, atol=0.01)


def test_descents_are_measured_by_the_minima_they_reach(ready: Ready, tmp_path: Path) -> None:
    _, result = measured(ready, "himmelblau", tmp_path, steps=200)
    assert result.metrics["minima_reached"] == 3
    assert result.metrics["largest_value"] < 1e-6
    _, short = measured(ready, "himmelblau", tmp_path, steps=1)
    assert short.metrics["largest_value"] > 1


def test_the_elbo_agrees_with_the_loss(ready: Ready, tmp_path: Path) -> None:
    model, prepared = ready("vae", count=400)
    live = functions.live(models.get("vae"), model, prepared.config, prepared.assets)
    result = evaluate(live, prepared, tmp_path)
    image = tf.constant(prepared.test.inputs())
    noise = tf.random.stateless_normal([len(prepared.test), prepared.config.latent_dim], [0, 0])  # type: ignore[attr-defined]
    loss = float(model.losses_of(image, noise, training=False)[0])
    assert -result.metrics["elbo"] == pytest.approx(loss, rel=0.02)  # other noise


def test_without_a_classifier_there_is_no_frechet_distance_and_a_note_says_why(ready: Ready, tmp_path: Path) -> None:
    _, result = measured(ready, "wgan_gp", tmp_path)
    assert set(result.metrics) == {"diversity"}
    assert result.notes == [f"no Fréchet distance: {tmp_path} has no classifier for 28×28×1 images; train one first"]


def test_samples_are_the_same_for_the_same_seed(ready: Ready) -> None:
    model, prepared = ready("wgan_gp", count=60)
    live = functions.live(models.get("wgan_gp"), model, prepared.config, prepared.assets)
    a = draw(live, 300)
    np.testing.assert_array_equal(a, draw(live, 300))
    assert (a.shape, a.dtype) == ((300, 28, 28, 1), np.uint8)
    assert (a[:250] != draw(live, 250, seed=1)).any()
    assert (a[0] != a[250]).any()  # the second call uses other noise


MARGIN = 18
"""Pixels around a report's picture."""
REPORTS = {
    "lenet5": {"confusion.png", "mistakes.png", "answers.png"},
    "resnet18": {"confusion.png", "mistakes.png", "answers.png"},
    "sentiment_lstm": {"confusion.png", "mistakes.png"},
    "vae": {"reconstructions.png", "samples.png", "latent.png"},
    "wgan_gp": {"samples.png"},
    "unet": {"masks.png"},
    "house_prices": {"scatter.png"},
    "himmelblau": {"descents.png"},
    "toy_gan": {"density.png"},
}


def test_all_answers_are_shown_only_if_there_are_few(ready: Ready, tmp_path: Path) -> None:
    prepared, result = measured(ready, "lenet5", tmp_path, count=160)
    assert len(prepared.test) > pictures.FEW
    report.write(tmp_path / "report", "lenet5", prepared, [], 1, result)
    assert not (tmp_path / "report" / "answers.png").exists()


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_has_the_pictures_of_its_task(ready: Ready, tmp_path: Path, name: str) -> None:
    prepared, result = measured(ready, name, tmp_path, count=60)
    history = [{"epoch": float(e), "loss": 1 / e, "val_loss": 2 / e, "learning_rate": 0.1} for e in (1, 2, 3)]
    report.write(tmp_path / "report", name, prepared, history, 2, result)
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"curves.png"} | REPORTS[name] <= SHOWN.keys()
    for path in (tmp_path / "report").iterdir():
        image = tf.io.decode_png(path.read_bytes(), channels=3).numpy()
        assert min(image.shape[:2]) > 200
        assert image.std() > 10  # something is drawn
    if name in ("unet", "lenet5"):  # each pixel is a square; the last row of pictures ends at the margin
        side = 64 if name == "unet" else 28
        file = "masks.png" if name == "unet" else "mistakes.png"
        drawn = tf.io.decode_png((tmp_path / "report" / file).read_bytes(), channels=3).numpy()
        scale = int(1.6 * 120 / side)
        tile = drawn[-MARGIN - scale * side : -MARGIN, MARGIN : MARGIN + scale * side]
        np.testing.assert_array_equal(tile, tile[::scale, ::scale].repeat(scale, axis=0).repeat(scale, axis=1))
        assert tile.std() > 10
    if name == "wgan_gp":
        sheet = pictures.grid(result.answers["samples"])  # as drawn, but for its scale
        drawn = tf.io.decode_png((tmp_path / "report" / "samples.png").read_bytes(), channels=3).numpy()
        scale = int(8.5 * 120 / (2 * sheet.shape[1] + 8))
        larger = sheet.repeat(scale, axis=0).repeat(scale, axis=1)
        down, left = len(larger) + MARGIN, MARGIN
        np.testing.assert_array_equal(drawn[-down:-MARGIN, left : left + larger.shape[1]], larger)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("lenet5", {"first", "predictions"}),
        ("sentiment_lstm", set()),
        ("vae", {"reconstructions", "samples"}),
        ("wgan_gp", {"samples"}),
        ("unet", {"masks"}),
    ],
)
def test_a_snapshot_shows_answers_to_validation_examples(ready: Ready, name: str, shown: set[str]) -> None:
    model, prepared = ready(name, count=60)
    images = snapshot(functions.live(models.get(name), model, prepared.config, prepared.assets), prepared)
    assert set(images) == shown
    assert all(image.dtype == np.uint8 and image.shape[2] == 3 for image in images.values())
    if name == "lenet5":
        # 28×28 with its frame, 8 times as large; the grid has six images here, in rows of three.
        assert images["first"].shape == (256, 256, 3)
        assert images["predictions"].shape == (2 * 34 + 2, 3 * 34 + 2, 3)
        np.testing.assert_array_equal(images["first"][::8, ::8], images["predictions"][2:34, 2:34])


def test_a_grid_puts_images_row_by_row_on_white() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 3, 4, 1), np.uint8)
    grid = pictures.grid(images, columns=2)
    assert grid.shape == (3 * 5 + 2, 2 * 6 + 2, 3)
    assert [int(grid[2 + 5 * (i // 2), 2 + 6 * (i % 2), 0]) for i in range(5)] == [0, 1, 2, 3, 4]
    assert grid[-3, -3, 0] == 255  # no sixth image


def test_an_overlay_colours_objects_and_leaves_the_background() -> None:
    image = np.full((1, 2, 2, 1), 100, np.uint8)
    mask = np.array([[[0, 1], [0, 9]]])
    shown = pictures.overlay(image, mask, opacity=1.0)
    assert shown[0, 0, 0].tolist() == [100, 100, 100]
    assert shown[0, 0, 1].tolist() == pictures.COLOURS[1].tolist()
    assert shown[0, 1, 1].tolist() == pictures.COLOURS[2].tolist()  # colours repeat after 7


def test_features_come_from_a_classifier_of_such_images_preferably_of_the_same_data(tmp_path: Path) -> None:
    def version(name: str, number: int, shape: list[int], data: str, task: str = "classify") -> None:
        folder = tmp_path / name / str(number)
        (folder / "assets.extra").mkdir(parents=True)
        module = tf.Module()
        function = tf.function(
            lambda image: {
                "logits": tf.reshape(image, [-1, 4])[:, :2] * float(number),
                "class_id": tf.argmax([[0], [1]]),
            },
            input_signature=[tf.TensorSpec([None, *shape], name="image")],
        )
        tf.saved_model.save(module, str(folder), {"serving_default": function.get_concrete_function()})
        card = {
            "format": 1, "network": name, "task": task, "version": number, "created": "", "description": "",
            "config": {}, "preset": None, "seed": 1, "data": {"name": data}, "labels": ["a", "b"], "metrics": {},
            "epochs": 1, "training_seconds": 1, "machine": "", "onnx": {}, "parameters": 1, "size_bytes": 1,
            "versions": {}, "commit": None,
            "signatures": {
                "serving_default": {
                    "method": "predict", "before": [], "after": [], "reason": "none",
                    "inputs": {"image": {"dtype": "float32", "shape": [None, *shape]}},
                    "outputs": {"logits": {"dtype": "float32", "shape": [None, 2]}},
                }
            },
        }  # fmt: skip
        (folder / "assets.extra" / "card.json").write_text(json.dumps(card))

    assert functions.feature_extractor(tmp_path / "nowhere", (2, 2, 1), "faces") is None
    version("alexnet", 1, [2, 2, 1], "digits")
    version("lenet5", 1, [2, 2, 1], "digits")
    version("lenet5", 2, [2, 2, 1], "digits")
    version("other", 1, [4, 1, 1], "digits")
    version("painter", 1, [2, 2, 1], "digits", task="generate")
    extractor = functions.feature_extractor(tmp_path, (2, 2, 1), "digits")
    assert extractor is not None
    assert extractor.name == "logits of lenet5 version 2, trained on digits"
    assert extractor(np.full((3, 2, 2, 1), 255, np.uint8))["logits"].tolist() == [[2.0, 2.0]] * 3
    version("resnet18", 1, [2, 2, 1], "faces")
    extractor = functions.feature_extractor(tmp_path, (2, 2, 1), "faces")
    assert extractor is not None
    assert extractor.name == "logits of resnet18 version 1, trained on faces"
    assert functions.feature_extractor(tmp_path, (3, 3, 1), "faces") is None
