"""Reads a traffic file: how requests are split among versions, and which version gets a copy of them.

The file is JSON of our own, since models.config must stay what TensorFlow Serving reads:

    {"lenet5": {"split": {"default": {"stable": 95, "canary": 5}}, "shadow": "lenet5/canary"}}
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ladle.serving.errors import InvalidArgument
from ladle.serving.repository.folders import ModelConfig

DEFAULT = "default"
"""The split that also takes the requests that name no version and no label."""
MAX_BYTES = 2**20
"""Of a traffic file."""
_SHADOW_KEYS = ("to", "percent", "outputs", "tolerance")


class Arm(NamedTuple):
    """A version that gets a share of a split's requests.

    name     version label of models.config, or a version number
    percent  of the requests, from 0 to 100
    """

    name: str
    percent: float


@dataclass(frozen=True)
class Shadow:
    """The version that gets a copy of a model's requests.

    model      that it belongs to, often the same one
    name       its version label or number
    percent    of the requests that are copied
    outputs    that are compared; empty: all that the request got
    tolerance  of floating-point outputs, times the larger of 1 and the number; None: by their dtype
    """

    model: str
    name: str
    percent: float = 100.0
    outputs: tuple[str, ...] = ()
    tolerance: float | None = None

    def __str__(self) -> str:
        return f"{self.model}/{self.name}"


@dataclass(frozen=True)
class ModelTraffic:
    """The splits of a model by their names, and its shadow."""

    splits: Mapping[str, Sequence[Arm]] = field(default_factory=dict)
    shadow: Shadow | None = None


Traffic = Mapping[str, ModelTraffic]
"""By model."""


def read_traffic(path: Path) -> Traffic:
    """The traffic in a file. InvalidArgument when it cannot be read or says nothing that can be done."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidArgument(f"the traffic file {path} cannot be read: {error.strerror}") from None
    if len(text) > MAX_BYTES:
        raise InvalidArgument(f"the traffic file {path} has more than {MAX_BYTES} bytes; expected a small JSON object")
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise InvalidArgument(f"the traffic file {path} is not JSON: {error or 'nested too deeply'}") from None
    try:
        return parse_traffic(document)
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error.message}") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice in one object")
    return found


def parse_traffic(document: Any) -> Traffic:
    """The traffic in a JSON document; InvalidArgument names the first thing that is wrong."""
    return {
        model: _model(model, entry)
        for model, entry in _object(document, "the file", '{"MODEL": {"split": …, "shadow": …}}').items()
    }


def _model(model: str, entry: Any) -> ModelTraffic:
    entry = _object(entry, model, '{"split": …, "shadow": …}')
    _check_keys(model, entry, ("split", "shadow"))
    splits = _object(entry.get("split", {}), f"{model}: split", '{"default": {"stable": 95, "canary": 5}}')
    return ModelTraffic(
        {name: _arms(f'{model}: the split "{name}"', arms) for name, arms in splits.items()},
        None if entry.get("shadow") is None else _shadow(model, entry["shadow"]),
    )


def _arms(where: str, given: Any) -> tuple[Arm, ...]:
    arms = tuple(
        Arm(name, _percent(f"{where}: {name}", percent))
        for name, percent in _object(given, where, '{"stable": 95, "canary": 5}').items()
    )
    total = math.fsum(arm.percent for arm in arms)
    if abs(total - 100) > 1e-6:
        raise InvalidArgument(f"{where} adds up to {total:g} %; expected 100")
    return arms


def _shadow(model: str, given: Any) -> Shadow:
    where = f"{model}: shadow"
    entry = _object({"to": given} if isinstance(given, str) else given, where, '"MODEL/LABEL" or {"to": "MODEL/LABEL"}')
    _check_keys(where, entry, _SHADOW_KEYS)
    to = entry.get("to")
    name, slash, version = to.partition("/") if isinstance(to, str) else ("", "", "")
    if not name or not slash or not version:
        raise InvalidArgument(f'{where}: got {_shown(to)}; expected "MODEL/LABEL", such as "{model}/canary"')
    tolerance = entry.get("tolerance")
    if tolerance is not None and not (_is_number(tolerance) and tolerance >= 0):
        raise InvalidArgument(f"{where}: got the tolerance {_shown(tolerance)}; expected a number from 0 on")
    percent = _percent(where, entry.get("percent", 100))
    outputs = entry.get("outputs", [])
    if not isinstance(outputs, list) or not all(isinstance(output, str) for output in outputs):
        raise InvalidArgument(f'{where}: got the outputs {_shown(outputs)}; expected a list of names, ["class_id"]')
    return Shadow(name, version, percent, tuple(outputs), None if tolerance is None else float(tolerance))


def _percent(where: str, value: Any) -> float:
    if not _is_number(value) or not 0 <= value <= 100:
        raise InvalidArgument(f"{where}: got {_shown(value)}; expected a percentage from 0 to 100")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _object(value: Any, where: str, expected: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{where}: got {_shown(value)}; expected an object: {expected}")
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _check_keys(where: str, entry: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in entry:
        if key not in known:
            raise InvalidArgument(f'{where}: got "{key}"; expected {" or ".join(known)}')


# Against the models


def resolve(name: str, labels: Mapping[str, int]) -> int | None:
    """The version that a label or number names; None for an unknown label. A label goes before a number."""
    if name in labels:
        return labels[name]
    return int(name) if name.isascii() and name.isdigit() and len(name) < 19 else None


def check(traffic: Traffic, models: Mapping[str, ModelConfig], labels: Mapping[str, Mapping[str, int]]) -> None:
    """InvalidArgument when the traffic names a model, label or version that models.config does not have.

    labels  version numbers by model and label
    """
    for model, entry in traffic.items():
        _check_model(model, model, models)
        for split, arms in entry.splits.items():
            for arm in arms:
                _check_version(f'{model}: the split "{split}"', model, arm.name, models, labels)
        if entry.shadow is not None:
            _check_model(f"{model}: shadow", entry.shadow.model, models)
            _check_version(f"{model}: shadow", entry.shadow.model, entry.shadow.name, models, labels)
            _check_shadow(model, entry, models, labels)


def _check_model(where: str, model: str, models: Collection[str]) -> None:
    if model not in models:
        raise InvalidArgument(f'{where}: there is no model "{model}" in models.config{_nearest(model, models)}')


def _check_version(
    where: str,
    model: str,
    name: str,
    models: Mapping[str, ModelConfig],
    labels: Mapping[str, Mapping[str, int]],
) -> None:
    known = labels.get(model, {})
    version = resolve(name, known)
    if version is None:
        raise InvalidArgument(
            f'{where}: {model} has no version label "{name}"{_nearest(name, known) or "; models.config gives it none"}'
        )
    policy = models[model].policy
    if policy.kind == "specific" and version not in policy.versions:
        raise InvalidArgument(
            f"{where}: models.config does not load version {version} of {model}; "
            f"it loads {', '.join(map(str, sorted(policy.versions)))}"
        )


def _check_shadow(
    model: str, entry: ModelTraffic, models: Mapping[str, ModelConfig], labels: Mapping[str, Mapping[str, int]]
) -> None:
    """InvalidArgument when the shadow is what answers the requests already: every answer would equal itself."""
    shadow = entry.shadow
    assert shadow is not None
    if shadow.model != model:
        return
    version = resolve(shadow.name, labels.get(model, {}))
    policy = models[model].policy
    answering = {resolve(arm.name, labels.get(model, {})) for arm in entry.splits.get(DEFAULT, ()) if arm.percent}
    if answering == {version} or (policy.kind == "specific" and set(policy.versions) == {version}):
        raise InvalidArgument(
            f"{model}: shadow: {shadow} is version {version}, which answers the requests itself; "
            "name another version, or remove the shadow"
        )


def _nearest(name: str, known: Collection[str]) -> str:
    """What was probably meant, for an error; else all there is, if that is little."""
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; expected one of {', '.join(sorted(known))}" if 0 < len(known) <= 10 else ""


def targets(traffic: Traffic) -> Iterator[tuple[str, str]]:
    """Model, and label or number, of every version that gets requests or copies of them."""
    for model, entry in traffic.items():
        for arms in entry.splits.values():
            yield from ((model, arm.name) for arm in arms if arm.percent)
        if entry.shadow is not None and entry.shadow.percent:
            yield entry.shadow.model, entry.shadow.name
