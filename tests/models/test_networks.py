"""What holds for every registered network."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

from ladle import models
from ladle.training.loop.config import types

EVERY = pytest.mark.parametrize("name", models.names())
# What differs from another network in numbers alone trains in the slow tests only.
SIBLINGS = {"densenet121", "resnet34", "vgg13", "vgg16", "vgg19", "fcn16s", "fcn32s"}
SIBLINGS |= {"denoising_autoencoder", "dropout_autoencoder", "efficientnet_lite0"}
TRAINED = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SIBLINGS else n for n in models.names()]
)

FIRST = {models.get(name).build.__module__: name for name in reversed(models.names())}
MIXED = sorted({*FIRST.values(), "wgan_gp", "sentiment_lstm"})
"""One network of each family, whose siblings are made of the same layers; and two that differ in their step."""


@EVERY
def test_it_has_as_many_weights_as_its_row_says(name: str) -> None:
    network = models.get(name)
    assert network.build(network.config).count_params() == network.parameters


@EVERY
def test_its_docstring_names_its_weights_and_source(name: str) -> None:
    network = models.get(name)
    for word in ("Input", "Output", "Weights", "Source", f"{network.parameters:,}"):
        assert word in network.build.__doc__, word


@EVERY
def test_its_tiny_config_and_presets_are_known_options(name: str) -> None:
    network = models.get(name)
    assert set(network.presets) >= {"quick", "full"}
    for overrides in (network.tiny, *network.presets.values()):
        assert isinstance(network.configured(**overrides), type(network.config))


@EVERY
def test_every_option_has_help(name: str) -> None:
    for field in dataclasses.fields(models.get(name).config):
        assert field.metadata.get("help"), field.name


@EVERY
def test_its_description_without_tensorflow_is_its_row(name: str) -> None:
    network, described = models.get(name), models.described(name)
    built = {"config", "build", "signatures", "example", "restore", "stages", "pretrained", "claims"}
    for field in {field.name for field in dataclasses.fields(network)} - built:
        assert getattr(described, field) == getattr(network, field), field
    assert options(described) == options(network)
    assert described.pretrained(described.config) == network.pretrained(network.config)
    assert [claim.statement for claim in described.claims] == [claim.statement for claim in network.claims]
    stages = [(stage.name, stage.epochs) for stage in network.stages(network.config)]
    assert [(stage.name, stage.epochs) for stage in described.stages(described.config)] == stages
    with pytest.raises(RuntimeError, match="only described"):
        described.build(described.config)


def options(network: models.Network) -> list[Any]:
    """Name, type, help and default of each option, in order."""
    kinds = types(network.config)
    fields = dataclasses.fields(network.config)
    return [(f.name, kinds[f.name], f.metadata["help"], getattr(network.config, f.name)) for f in fields]


def test_an_unknown_name_is_answered_with_near_names_only() -> None:
    for lookup in (models.get, models.described):
        with pytest.raises(KeyError, match=r"unknown network 'lenet55'; did you mean lenet5\?"):
            lookup("lenet55")
        with pytest.raises(KeyError, match=r"unknown network 'zzz'; `ladle networks` lists them"):
            lookup("zzz")


@EVERY
def test_the_seed_alone_decides_the_weights(name: str, tiny: Any) -> None:
    one, same, other = (models.get(name).build(tiny(name, seed=seed)).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    drawn = [not np.array_equal(a, b) for a, b in zip(one, other, strict=True) if a.ndim > 1 and a.any()]
    assert any(drawn) or not drawn, "matrices that do not begin at zero come from the seed"


@TRAINED
def test_training_is_the_same_for_the_same_seed_and_lowers_the_loss(
    name: str, tiny: Any, batch: Any, losses: Any
) -> None:
    config = tiny(name)
    one, other = (models.get(name).build(config) for _ in range(2))
    values = losses(one, batch(name, config), steps=3)
    losses(other, batch(name, config), steps=3)
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)
    if one.trainable_variables:  # himmelblau trains its input
        values += losses(one, batch(name, config), steps=57)
        assert np.mean(values[-5:]) < np.mean(values[:5])


@pytest.mark.parametrize("name", MIXED)
def test_it_trains_in_mixed_precision_with_weights_and_losses_in_float32(
    name: str, tiny: Any, batch: Any, losses: Any, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(lambda: keras.config.set_dtype_policy("float32"))
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = models.get(name).build(tiny(name))
    assert np.isfinite(losses(model, batch(name, tiny(name)), steps=2)).all()
    assert {w.dtype for w in model.weights} == {"float32"}


@EVERY
def test_signatures_answer_the_example_with_what_they_promise(name: str, tiny: Any) -> None:
    network, config = models.get(name), tiny(name)
    signatures = network.signatures(network.build(config), config, words(network, config))
    answer = signatures["serving_default"](**network.example(config))
    assert list(answer) == list(signatures["serving_default"].outputs)
    assert set(network.example(config)) == set(signatures["serving_default"].inputs)


def words(network: models.Network, config: Any) -> models.Assets:
    """Labels and vocabulary of the size that `config` asks for."""
    if network.task == "sentiment":
        return models.Assets(("negative", "positive"), tuple(f"w{i}" for i in range(config.vocab_size - 3)))
    return models.Assets(tuple(f"l{i}" for i in range(getattr(config, "num_classes", 0) + (network.task == "segment"))))
