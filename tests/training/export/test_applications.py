"""The networks of keras.applications convert, each in under a minute."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from ladle.training.export.conversion import convert
from ladle.training.onnx.convert import session
from tests.collection import applications


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", applications.NAMES)
def test_an_application_converts(name: str) -> None:
    found = applications.measure(name)
    assert found["reason"] == ""
    assert found["seconds"] < applications.MOST_S


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2, 6))
def test_a_chaotic_application_converts_whatever_its_weights(seed: int) -> None:
    assert applications.measure("EfficientNetV2S", seed=seed)["reason"] == ""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "EfficientNetB0"])
def test_an_application_without_a_size_answers_at_every_size(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    model = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(None, None, 3), pooling="avg"
    )
    model.export(tmp_path / "1", verbose=False)
    assert convert(tmp_path / "1").reasons == {}
    run = session(str(tmp_path / "1" / "model.onnx"))
    [alias] = (value.name for value in onnx.load(tmp_path / "1" / "model.onnx").graph.input)
    for height, width in ((32, 32), (33, 47), (64, 95), (129, 40)):
        image = np.random.default_rng(height).random((2, height, width, 3), np.float32)
        [found] = run({alias: image}).values()
        expected = model(image).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected))
