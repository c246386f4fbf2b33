from __future__ import annotations

import pytest

from ladle import models
from ladle.training.errors import UsageError
from ladle.training.loop import config, target


@pytest.mark.parametrize("text", ["accuracy", "accuracy=", "=0.9", "accuracy=high", "accuracy=nan", "loss=inf"])
def test_another_form_than_a_metric_and_a_number_is_refused_before_training(text: str) -> None:
    network = models.get("perceptron")
    with pytest.raises(UsageError, match=f"got until '{text}'; expected a metric and a number, such as accuracy=0.97"):
        config.check(network, network.configured(until=text))


def test_no_text_is_no_target() -> None:
    assert target.parse("") is None


@pytest.mark.parametrize(
    ("text", "figures", "reached"),
    [
        ("accuracy=0.9", {"accuracy": 0.95, "val_accuracy": 0.89}, False),
        ("accuracy=0.9", {"accuracy": 0.85, "val_accuracy": 0.9}, True),
        ("val_accuracy=0.9", {"accuracy": 0.95, "val_accuracy": 0.89}, False),
        ("mean_iou=0.5", {"val_mean_iou": 0.6}, True),
        ("loss=0.1", {"loss": 0.09, "val_loss": 0.2}, False),
        ("loss=0.1", {"loss": 0.09}, True),
        ("loss=-2", {"loss": -1.9}, False),
    ],
)
def test_accuracies_rise_to_a_target_and_losses_fall(text: str, figures: dict[str, float], reached: bool) -> None:
    found = target.parse(text)
    assert found is not None
    assert found.reached(figures) is reached
