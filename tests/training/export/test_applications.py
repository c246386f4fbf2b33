"""The networks of keras.applications convert, each in under a minute."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from ladle.training.export.conversion import convert
from ladle.training.onnx.convert import session

MOST_S = 60.0
NAMES = (
    *("ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2", "InceptionV3"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Large", "MobileNetV3Small", "NASNetMobile", "ResNet50", "ResNet50V2"),
    *("VGG16", "Xception"),
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_an_application_converts(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    model = getattr(keras.applications, name)(weights=None, input_shape=(96, 96, 3), classes=5)
    model.export(tmp_path / "1", verbose=False)
    result = convert(tmp_path / "1")
    assert result.reasons == {}
    assert result.seconds["serving_default"] < MOST_S


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
