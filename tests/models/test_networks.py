"""What holds for every registered network."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

from ladle import models
from ladle.training.loop import checkpoint
from ladle.training.loop.config import types
from tests.siblings import DISTINCT

EVERY = pytest.mark.parametrize("name", models.names())

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
    assert {task: (other.task, options(other)) for task, other in described.tables.items()} == {
        task: (other.task, options(other)) for task, other in network.tables.items()
    }
    built = {"config", "build", "signatures", "example", "restore", "stages", "pretrained", "claims", "tables"}
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
    return [(f.name, kinds[f.name], f.metadata.get("help"), getattr(network.config, f.name)) for f in fields]


def test_an_unknown_name_is_answered_with_near_names_only() -> None:
    for lookup in (models.get, models.described):
        with pytest.raises(KeyError, match=r"unknown network 'lenet55'; did you mean lenet5\?"):
            lookup("lenet55")
        with pytest.raises(KeyError, match=r"unknown network 'zzz'; `ladle networks` lists them"):
            lookup("zzz")


@DISTINCT
def test_the_seed_alone_decides_the_weights(name: str, tiny: Any) -> None:
    one, same, other = (models.get(name).build(tiny(name, seed=seed)) for seed in (1, 1, 2))
    for a, b in zip(decided(one), decided(same), strict=True):
        np.testing.assert_array_equal(a, b)
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    drawn = [not np.array_equal(a, b) for a, b in pairs if a.ndim > 1 and a.any()]
    known = not one.trainable_variables  # kernels that are given
    assert any(drawn) or not drawn or known, "matrices that do not begin at zero come from the seed"


def decided(model: keras.Model) -> list[np.ndarray[Any, Any]]:
    """Weights and the states of random layers; not those of recurrent cells, which Keras seeds and ours do not use."""
    layers = [layer for layer in model._flatten_layers() if getattr(layer, "recurrent_dropout", None) == 0]
    idle = {id(layer.seed_generator.state) for layer in layers if hasattr(layer, "seed_generator")}
    return [variable.numpy() for variable in model.variables if id(variable) not in idle]


@DISTINCT
def test_training_repeats_from_the_same_start_and_lowers_the_loss(
    name: str, tiny: Any, batch: Any, losses: Any
) -> None:
    config = tiny(name)
    model = models.get(name).build(config)
    if model.optimizer is not None:
        model.optimizer.build(model.trainable_variables)  # creates its variables
    variables = checkpoint.variables(model)
    start = [variable.numpy() for variable in variables]
    values = losses(model, batch(name, config), steps=3)
    first = [variable.numpy() for variable in model.weights]
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)
    losses(model, batch(name, config), steps=3)
    for variable, value in zip(model.weights, first, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, atol=1e-6)
    if model.trainable_variables:  # himmelblau trains its input
        while len(values) < 60 and (len(values) < 20 or np.mean(values[-5:]) >= np.mean(values[:5])):
            values += losses(model, batch(name, config), steps=10)
        assert np.mean(values[-5:]) < np.mean(values[:5])


@pytest.mark.parametrize("name", MIXED)
def test_it_trains_in_mixed_precision_with_weights_and_losses_in_float32(
    name: str, tiny: Any, batch: Any, losses: Any, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(lambda: keras.config.set_dtype_policy("float32"))
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = models.get(name).build(tiny(name))
    compiled = name == "tensor_mlp"  # its bare tensors are cast in compiled steps only
    assert np.isfinite(losses(model, batch(name, tiny(name)), steps=2, compiled=compiled)).all()
    assert {w.dtype for w in model.weights} == {"float32"}


@DISTINCT
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
