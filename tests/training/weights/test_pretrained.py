"""Published weights of a base: from a package's PyTorch checkpoint or a Keras file; and the errors without them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from ladle import models
from ladle.models import _efficientnet
from ladle.training.data import DataError, Silent
from ladle.training.errors import UsageError
from ladle.training.weights import pretrained

TRANSFER = models.get("transfer")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cache, no index of packages, no way out."""
    monkeypatch.setenv("LADLE_CACHE", str(tmp_path / "cache"))
    for client in ("PIP", "UV"):
        monkeypatch.setenv(f"{client}_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")


def tiny(**overrides: Any) -> models.Config:
    return TRANSFER.configured(**{**TRANSFER.tiny, "pretrained": True, **overrides})


def published(base: keras.Model) -> dict[str, np.ndarray]:
    """Tensors for every weight of a base, as its checkpoint has them."""
    random = np.random.default_rng(1)
    tensors: dict[str, np.ndarray] = {}
    for name, prefix in _efficientnet.names(base):
        layer = base.get_layer(name)
        if isinstance(layer, keras.layers.BatchNormalization):
            for part in ("weight", "bias", "running_mean", "running_var"):
                tensors[f"{prefix}.{part}"] = random.random(layer.gamma.shape, np.float32)
        else:
            tensors[f"{prefix}.weight"] = random.normal(size=torch_shape(layer)).astype(np.float32)
    return tensors


def torch_shape(layer: keras.layers.Layer) -> tuple[int, ...]:
    """[out, in / groups, h, w] of a convolution."""
    h, w, into, out = layer.kernel.shape
    return (into, out, h, w) if isinstance(layer, keras.layers.DepthwiseConv2D) else (out, into, h, w)


def test_a_base_takes_the_tensors_of_its_published_checkpoint() -> None:
    model = TRANSFER.build(tiny())
    base = model.get_layer("efficientnet_lite0")
    tensors = published(base)
    assert {"_conv_stem.weight", "_blocks.1._expand_conv.weight", "_blocks.1._bn2.running_var"} <= set(tensors)
    assert TRANSFER.restore is not None
    TRANSFER.restore(model, tensors)
    stem, depth = base.get_layer("stem_conv"), base.get_layer("block2_depth_conv")
    np.testing.assert_array_equal(stem.kernel, tensors["_conv_stem.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(
        depth.kernel[..., 0], tensors["_blocks.1._depthwise_conv.weight"][:, 0].transpose(1, 2, 0)
    )
    np.testing.assert_array_equal(base.get_layer("head_norm").moving_variance, tensors["_bn1.running_var"])


def test_a_checkpoint_of_another_size_is_refused() -> None:
    tensors = published(_efficientnet.base(0, 0.5, (1, 1)))
    with pytest.raises(ValueError, match=r"_conv_stem.weight has shape \[3, 3, 3, 16\]; expected \[3, 3, 3, 8\]"):
        TRANSFER.restore(TRANSFER.build(tiny()), tensors)  # type: ignore[misc]


@pytest.mark.parametrize("base", ["efficientnet_lite0", pytest.param("vgg16", marks=pytest.mark.slow)])
def test_a_keras_file_is_accepted_for_each_kind_of_base(base: str, tmp_path: Path) -> None:
    config = tiny(base=base)
    donor, model = TRANSFER.build(config), TRANSFER.build(tiny(base=base, seed=7))
    file = tmp_path / "own.weights.h5"
    donor.get_layer(base).save_weights(file)
    weights = pretrained.find(TRANSFER, config, file, Silent())
    assert weights is not None
    assert weights.provenance["source"] == "user's path: own.weights.h5"
    pretrained.restore(TRANSFER, model, weights)
    for a, b in zip(donor.get_layer(base).weights, model.get_layer(base).weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("base", ["efficientnet_lite0", "xception"])
def test_without_network_and_file_one_sentence_gives_advice(base: str, offline: None) -> None:
    with pytest.raises(DataError, match=r"--base-weights, or train without: --no-pretrained$") as error:
        pretrained.find(TRANSFER, tiny(base=base), None, Silent())
    assert base in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    file.write_bytes(pickle.dumps(os.getcwd, 2))
    weights = pretrained.find(TRANSFER, tiny(), file, Silent())
    assert weights is not None
    with pytest.raises(DataError, match=r"names posix\.getcwd, which tensors do not need"):
        pretrained.restore(TRANSFER, TRANSFER.build(tiny()), weights)


@pytest.mark.parametrize("wrong", [{"pretrained": False}, {}], ids=["not wanted", "not there"])
def test_a_missing_or_unneeded_file_is_a_usage_error(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--base-weights"):
        pretrained.find(TRANSFER, tiny(**wrong), tmp_path / "none.h5", Silent())


def test_a_network_with_random_weights_fetches_nothing(offline: None) -> None:
    assert pretrained.find(TRANSFER, tiny(pretrained=False), None, Silent()) is None
