from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from ladle import models

NETWORKS = pytest.mark.parametrize("name", ["tensor_mlp", "sentiment_rnn", "sentiment_lstm"])
NO_CLIPPING = {"clip_value": 0.0, "clip_norm": 0.0, "clip_global_norm": 0.0}


def moved(model: Any, batch: Any) -> tuple[dict[str, float], float]:
    """What a step tells, and how far it moves all weights together."""
    before = [weight.copy() for weight in model.get_weights()]
    told = {name: float(value) for name, value in model.train_step(batch).items()}
    pairs = zip(model.get_weights(), before, strict=True)
    return told, float(np.sqrt(sum(np.sum((a - b) ** 2) for a, b in pairs)))


@NETWORKS
@pytest.mark.parametrize("option", ["clip_value", "clip_norm", "clip_global_norm"])
def test_a_step_tells_how_long_its_gradients_are_before_and_after_clipping(
    name: str, option: str, tiny: Any, batch: Any
) -> None:
    # Plain gradient descent with a rate of 1 moves the weights by the gradient itself.
    plain = {"learning_rate": 1.0, **({"optimizer": "sgd"} if name != "tensor_mlp" else {})}
    whole = models.get(name).build(tiny(name, **plain, **NO_CLIPPING))
    examples = batch(name, tiny(name))
    silent, before = moved(whole, examples)
    short = models.get(name).build(tiny(name, **plain, **{**NO_CLIPPING, option: before / 20}))
    told, after = moved(short, examples)
    assert set(told) - set(silent) == {"gradient_norm", "clipped_norm"}
    assert next(iter(told)) == "loss"
    assert told["gradient_norm"] == pytest.approx(before, rel=1e-3)
    assert told["clipped_norm"] == pytest.approx(after, rel=1e-3)
    assert after < 0.9 * before


@NETWORKS
def test_validation_has_no_gradients_to_tell_of(name: str, tiny: Any, batch: Any) -> None:
    model = models.get(name).build(tiny(name))
    assert set(model.test_step(batch(name, tiny(name)))) == {"loss", "accuracy"}


def test_a_saved_file_names_no_class_of_ladle(tiny: Any, batch: Any, tmp_path: Path) -> None:
    model = models.get("sentiment_lstm").build(tiny("sentiment_lstm"))
    examples = batch("sentiment_lstm", tiny("sentiment_lstm"))
    model.train_step(examples)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded).__module__.startswith("keras.")
    np.testing.assert_allclose(loaded(examples[0]), model(examples[0]), atol=1e-6)
