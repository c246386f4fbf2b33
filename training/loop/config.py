"""Hyperparameters: the fields of a Config, as command-line options and as JSON.

Defaults stand in the network's config alone. A preset overrides them, a file overrides the preset, and options override
all.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ladle.models import Config, Network
from ladle.training.errors import UsageError
from ladle.training.loop import schedule, target

NO_PRESET = "none"
"""What `--preset` takes for the networks' own defaults."""
DEFAULT_PRESET = "quick"
GROUPS: dict[str, tuple[str, ...]] = {
    "network": (),
    "data": (
        *("height", "width", "channels", "num_classes", "classes", "vocab_size", "max_length"),
        *("train_limit", "augment", "elastic", "crop", "standardize"),
    ),
    "schedule": (
        *("batch_size", "epochs", "head_epochs", "learning_rate", "fine_rate", "schedule", "warmup"),
        *("decay", "decay_epochs", "decay_power", "decay_to"),
        *("monitor", "patience", "until", "max_minutes", "folds", "seed"),
    ),
    "optimizer": (
        *("optimizer", "momentum", "nesterov", "weight_decay", "beta_1", "beta_2"),
        *("clip_value", "clip_norm", "clip_global_norm"),
    ),
    "regularisation": ("dropout", "kernel_l1", "kernel_l2", "penalty_l1", "penalty_l2", "label_smoothing"),
}
"""Options by group of the help; those that are in none belong to the network."""
METAVARS = {"until": "METRIC=VALUE", "monitor": "METRIC"}
"""What the help shows for options whose value is no single name or number."""
NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}


def as_dict(config: Config) -> dict[str, Any]:
    """The config in JSON types: tuples become lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}


def types(config: Config) -> dict[str, Any]:
    """The type of each field by name: int, float, bool, str or tuple[one of them, ...]."""
    hints = typing.get_type_hints(type(config))
    return {field.name: hints[field.name] for field in dataclasses.fields(config)}


def facts(config: Config) -> set[str]:
    """The fields that the data alone set, such as a table's columns; they are no options."""
    return {field.name for field in dataclasses.fields(config) if field.metadata.get("fact")}


def preset_of(network: Network, given: str | None, file: object = None) -> str | None:
    """The preset that a command line means: by default `quick`, or none beside a file of options."""
    if given is not None:
        return None if given == NO_PRESET else given
    return DEFAULT_PRESET if file is None and DEFAULT_PRESET in network.presets else None


def compose(
    network: Network,
    preset: str | None = None,
    file: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Config:
    """The network's config: defaults < preset < file < options.

    Raises UsageError: an unknown preset, an unknown key, a value of the wrong type.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if preset is not None:
        if preset not in network.presets:
            expected = f"one of {', '.join((*network.presets, NO_PRESET))}"
            raise UsageError(f"{network.name}: got preset {preset!r}; expected {expected}")
        layers.append((f"preset {preset}", network.presets[preset]))
    layers += [("config file", file or {}), ("options", options or {})]
    values: dict[str, Any] = {}
    for source, layer in layers:
        values |= checked(network, layer, source)
    return dataclasses.replace(network.config, **values)


def checked(network: Network, values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The values with the types of their fields. UsageError: an unknown key, a value of the wrong type.

    source  where the values come from, for the message
    """
    fields = types(network.config)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f'{network.name}: {source}: got "{key}"; expected one of {", ".join(fields)}{hint}')
    return {key: _typed(f"{network.name}: {source}: {key}", value, fields[key]) for key, value in values.items()}


def read(path: Path, network: Network) -> dict[str, Any]:
    """The options in a model card, or in a JSON object of options. UsageError: the file is neither."""
    advice = "give a card.json, or a JSON object of options"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is not JSON ({error}); {advice}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: got a JSON {type(content).__name__}; expected an object; {advice}")
    if isinstance(content.get("config"), dict):
        if content.get("network", network.name) != network.name:
            raise UsageError(f"{path}: got the card of {content['network']}; expected the card of {network.name}")
        content = recorded(network, content["config"])
    return checked(network, content, str(path))


def recorded(network: Network, values: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a card or run, without options that were off and that the network no longer has.

    So a card written before an option was removed still repeats its run, as long as the run did not use it.
    """
    fields = types(network.config)
    return {key: value for key, value in values.items() if value or key in fields}


def check(network: Network, config: Config) -> None:
    """Raise UsageError if options exclude each other, or if there is nothing to train for."""
    stages = network.stages(config)
    if (sum(stage.epochs for stage in stages) if stages else config.epochs) < 1:
        raise UsageError(f"{network.name}: got epochs {config.epochs}; expected 1 or more")
    if config.batch_size < 1:
        raise UsageError(f"{network.name}: got batch_size {config.batch_size}; expected 1 or more")
    if config.max_minutes < 0:
        raise UsageError(f"{network.name}: got max_minutes {config.max_minutes:g}; expected 0 or more")
    schedule.check(config)
    target.parse(config.until)
    from ladle.models._optimizers import clipping  # late, because it imports TensorFlow

    try:
        clipping(config)
    except ValueError as error:
        raise UsageError(str(error)) from error


def add_options(
    parser: argparse.ArgumentParser, networks: Iterable[Network], skip: Iterable[str] = (), title: str = "options"
) -> None:
    """Add an option for each config field of the networks, in the groups `TITLE: data`, `TITLE: schedule` and so on.

    An option that is not given is absent from the result.
    The help of a field that only some networks have names them. It shows the default if they agree on one; of a single
    network also what the default preset makes of it.
    """
    networks = list(networks)
    fields = {network.name: types(network.config) for network in networks}
    owners: dict[str, list[Network]] = {}
    for network in networks:
        for name in fields[network.name]:
            owners.setdefault(name, []).append(network)
    names = sorted((name for name in owners if name not in skip), key=lambda name: list(GROUPS).index(_group(name)))
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name in names:
        having = owners[name]
        kind = _group(name)
        group = groups[kind] = groups.get(kind) or parser.add_argument_group(f"{title}: {kind}")
        config = having[0].config
        of = fields[having[0].name][name]
        text = next(f for f in dataclasses.fields(config) if f.name == name).metadata.get("help", "")
        defaults = {_shown(getattr(network.config, name)) for network in having}
        shown = f"default {defaults.pop()}" if len(defaults) == 1 else "default depends on the network"
        preset = networks[0].presets.get(DEFAULT_PRESET, {}) if len(networks) == 1 else {}
        if preset.get(name, getattr(config, name)) != getattr(config, name):
            shown += f"; {_shown(preset[name])} with the preset {DEFAULT_PRESET}"
        if len(having) < len(networks):
            shown += f"; {', '.join(network.name for network in having)} only"
        settings: dict[str, Any] = {
            "dest": name,
            "default": argparse.SUPPRESS,
            "help": f"{text} ({shown})".replace("%", "%%"),
        }
        flag = "--" + name.replace("_", "-")
        if of is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **settings)
        else:
            metavar = METAVARS.get(name) or {int: "N", float: "X", str: "NAME"}.get(of, "N,N")
            group.add_argument(flag, type=_parser(of), metavar=metavar, **settings)


def _group(name: str) -> str:
    return next((group for group, names in GROUPS.items() if name in names), "network")


def _parser(kind: Any) -> Any:
    def parse(text: str) -> Any:
        try:
            if _item(kind) is not None:
                return tuple(_item(kind)(part) for part in text.split(",") if part.strip())
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"got {text!r}; expected {_named(kind)}") from None

    return parse


def _typed(what: str, value: Any, kind: Any) -> Any:
    item = _item(kind)
    if item is not None:
        if not isinstance(value, list | tuple):
            raise UsageError(f"{what}: got {json.dumps(value)}; expected {_named(kind)}")
        return tuple(_typed(what, part, item) for part in value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and number:
        return float(value)
    if kind is int and number and float(value).is_integer():
        return int(value)
    if kind in (bool, str) and isinstance(value, kind):
        return value
    raise UsageError(f"{what}: got {json.dumps(value, default=str)}; expected {_named(kind)}")


def _item(kind: Any) -> Any:
    """The type of a tuple's items; None if the type is not a tuple."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None


def _named(kind: Any) -> str:
    item = _item(kind)
    return NAMES[kind] if item is None else f"a list, each item {NAMES[item]}"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if value != "" else "none"
