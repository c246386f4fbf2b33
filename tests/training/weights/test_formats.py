"""Keras's own files of every network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from ladle import models
from ladle.training.weights import formats
from ladle.training.weights.formats import FormatError


def built(name: str, seed: int) -> tuple[Any, Any]:
    """The network at its tiny size with weights that only this seed gives, and an input."""
    network = models.get(name)
    config = network.configured(**network.tiny)
    model, random = network.build(config), np.random.default_rng(seed)
    model.set_weights([w + 0.1 * random.standard_normal(w.shape).astype(w.dtype) for w in model.get_weights()])
    return model, next(iter(network.example(config).values()))


def answer(model: Any, x: np.ndarray) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in tf.nest.flatten(model(x, training=False))]


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"], ids=["keras", "h5", "weights"])
@pytest.mark.parametrize("name", [name for name in models.names() if name not in ("vgg11", "vgg16", "vgg19")])
def test_a_model_read_back_predicts_the_same(name: str, suffix: str, tmp_path: Path) -> None:
    model, x = built(name, seed=1)
    path = tmp_path / "folder" / f"model{suffix}"
    formats.save(model, path)
    again = formats.load(path, built(name, seed=2)[0] if suffix == ".weights.h5" else None)
    assert type(again) is type(model)
    for wanted, got in zip(answer(model, x), answer(again, x), strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert not again.trainable_weights or again.optimizer is not None


def test_weights_alone_need_a_model(tmp_path: Path) -> None:
    formats.save(built("vae", seed=1)[0], tmp_path / "vae.weights.h5")
    with pytest.raises(FormatError, match="holds weights alone; give a model"):
        formats.load(tmp_path / "vae.weights.h5")


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    formats.save(built("lenet5", seed=1)[0], tmp_path / "lenet5.weights.h5")
    with pytest.raises(FormatError, match=r"lenet5\.weights\.h5 cannot be read: "):
        formats.load(tmp_path / "lenet5.weights.h5", built("vae", seed=1)[0])


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"], ids=["keras", "h5", "weights"])
def test_a_broken_file_is_refused_in_one_line(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"no model")
    with pytest.raises(FormatError, match="cannot be read: ") as caught:
        formats.load(path, built("lenet5", seed=1)[0])
    assert "\n" not in str(caught.value)


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"got model\.pt; expected a name that ends in \.keras, \.h5, \.weights\.h5"):
        formats.save(built("lenet5", seed=1)[0], tmp_path / "model.pt")
    with pytest.raises(FormatError, match="is not a file"):
        formats.load(tmp_path / "missing.keras")


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"], ids=["keras", "h5", "weights"])
def test_a_file_that_cannot_be_written_is_refused(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match="cannot be written: "):
        formats.save(built("lenet5", seed=1)[0], tmp_path / "file" / f"model{suffix}")
