from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ladle import models
from ladle.models._network import Config as BaseConfig
from ladle.models._network import Network, option
from ladle.training.errors import UsageError
from ladle.training.loop import config


@dataclass(frozen=True)
class Config(BaseConfig):
    units: int = option(8, "units of the layer")
    filters: tuple[int, ...] = option((6, 16), "filters of each convolution")
    dropout: float = option(0.5, "share of 100 % that is dropped")
    layer: str = option("lstm", "recurrent layer")


NETWORK = Network(
    name="toy",
    task="classify",
    summary="",
    config=Config(),
    build=lambda config: None,
    signatures=lambda model, config, assets: {},
    example=lambda config: {},
    parameters=0,
    tiny={},
    presets={"quick": {"epochs": 1, "units": 4}, "full": {"epochs": 9}},
    source="",
)


def parse(*arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    config.add_options(parser, [NETWORK])
    return vars(parser.parse_args(arguments))


def test_options_override_the_file_the_preset_and_the_defaults() -> None:
    made = config.compose(NETWORK, "quick", {"units": 5, "seed": 1}, {"seed": 2})
    assert (made.epochs, made.units, made.seed, made.batch_size) == (1, 5, 2, 128)


def test_options_come_from_the_fields_with_dashes_and_types() -> None:
    given = parse("--batch-size", "4", "--filters", "1,2,3", "--no-augment", "--dropout", "0", "--layer", "gru")
    assert given == {"batch_size": 4, "filters": (1, 2, 3), "augment": False, "dropout": 0.0, "layer": "gru"}
    assert parse() == {}


def test_help_has_groups(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    said = capsys.readouterr().out
    parts = dict(
        zip(("network", "data", "schedule", "optimizer", "regularisation"), said.split("\noptions: ")[1:], strict=True)
    )
    for group, named in (
        ("network", "--units N"),
        ("data", "--train-limit N"),
        ("schedule", "--until METRIC=VALUE"),
        ("optimizer", "--clip-norm X"),
        ("regularisation", "--dropout X"),
    ):
        assert parts[group].startswith(f"{group}:\n")
        assert named in parts[group]


def test_help_shows_meaning_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    told = " ".join(capsys.readouterr().out.split())
    assert "--filters N,N filters of each convolution (default 6,16)" in told
    assert "share of 100 % that is dropped (default 0.5)" in told
    assert "--augment, --no-augment" in told


def test_an_option_of_the_wrong_type_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--filters", "1,x")
    assert "got '1,x'; expected a list, each item an integer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(
            {"unit": 3}, r'options: got "unit"; expected one of data, batch_size.*did you mean units\?', id="unknown"
        ),
        pytest.param({"units": "3"}, r'units: got "3"; expected an integer', id="text for an integer"),
        pytest.param({"units": True}, "units: got true; expected an integer", id="truth for an integer"),
        pytest.param({"units": 1.5}, "units: got 1.5; expected an integer", id="fraction for an integer"),
        pytest.param({"augment": 1}, "augment: got 1; expected true or false", id="number for truth"),
        pytest.param({"filters": [1, "a"]}, 'filters: got "a"; expected an integer', id="text in a list"),
        pytest.param({"filters": 3}, "filters: got 3; expected a list, each item an integer", id="number for a list"),
    ],
)
def test_a_wrong_value_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config.compose(NETWORK, options=values)


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"got preset 'fast'; expected one of quick, full"):
        config.compose(NETWORK, "fast")


@pytest.mark.parametrize("name", models.names())
def test_every_config_goes_to_json_and_back(name: str) -> None:
    network = models.get(name)
    told = json.loads(json.dumps(config.as_dict(network.config)))
    assert config.compose(network, file=told) == network.config
    for preset in network.presets:
        config.compose(network, preset)
    config.compose(network, options=network.tiny)


def test_a_card_gives_its_config(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text(json.dumps({"network": "toy", "config": {"units": 3, "filters": [1]}}))
    assert config.read(path, NETWORK) == {"units": 3, "filters": (1,)}
    path.write_text(json.dumps({"epochs": 3}))
    assert config.read(path, NETWORK) == {"epochs": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "cannot be read", id="no file"),
        pytest.param("{", "is not JSON", id="not JSON"),
        pytest.param("[1]", "got a JSON list", id="a list"),
        pytest.param(
            '{"network": "vae", "config": {}}', "got the card of vae; expected the card of toy", id="another network"
        ),
        pytest.param('{"epoch": 1}', "did you mean epochs", id="unknown key"),
    ],
)
def test_a_file_without_options_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=message):
        config.read(path, NETWORK)
