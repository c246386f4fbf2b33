"""The networks of keras.applications convert, each in under a minute."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from ladle.training.export.conversion import convert

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
