"""The traffic file of `ladle config`: changes one split or shadow at a time, and never writes what a server refuses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ladle.serving.errors import InvalidArgument
from ladle.serving.repository.folders import ModelConfig
from ladle.serving.repository.traffic import DEFAULT, check, parse_traffic, read_traffic

TRAFFIC = "traffic.json"


def change(path: Path, splits: Sequence[str], shadows: Sequence[str], models: Iterable[ModelConfig]) -> str | None:
    """The text of the traffic file after the changes; None if there is no file and no change.

    path     of the file as it is now, if there is one
    splits   NAME=stable:95,canary:5, NAME/SPLIT=... for another split than `default`; NAME= removes it
    shadows  NAME=MODEL/LABEL, or NAME=MODEL/LABEL:10 for a tenth of the requests; NAME= removes it
    models   with their labels and versions, as models.config will have them

    ValueError for a change that cannot be read, InvalidArgument when a server with these models would refuse the file.
    """
    if path.exists():
        read_traffic(path)  # its errors name the file
        document: dict[str, Any] = json.loads(path.read_bytes())
    elif splits or shadows:
        document = {}
    else:
        return None
    for text in splits:
        name, arms = _split(text)
        model, _, split = name.partition("/")
        entry = document.setdefault(model, {}).setdefault("split", {})
        entry.pop(split or DEFAULT, None)
        entry |= {split or DEFAULT: arms} if arms else {}
    for text in shadows:
        model, shadow = _shadow(text)
        entry = document.setdefault(model, {})
        entry.pop("shadow", None)
        entry |= {"shadow": shadow} if shadow else {}
    document = {model: kept for model, entry in document.items() if (kept := {k: v for k, v in entry.items() if v})}
    by_name: Mapping[str, ModelConfig] = {model.name: model for model in models}
    try:
        check(parse_traffic(document), by_name, {name: model.labels for name, model in by_name.items()})
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error.message}") from None
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _split(text: str) -> tuple[str, dict[str, float]]:
    name, equals, arms = text.partition("=")
    try:
        found = {
            label: _number(percent) for label, _, percent in (arm.rpartition(":") for arm in arms.split(",") if arm)
        }
    except ValueError:
        found = {"": 0}
    if not name or not equals or "" in found:
        raise ValueError(f"got --split {text}; expected NAME=LABEL:PERCENT,…, for example unet=stable:95,canary:5")
    return name, found


def _shadow(text: str) -> tuple[str, Any]:
    name, equals, target = text.partition("=")
    if not name or not equals:
        raise ValueError(f"got --shadow {text}; expected NAME=MODEL/LABEL, for example unet=unet/canary")
    to, colon, percent = target.partition(":")
    if not colon:
        return name, target
    try:
        return name, {"to": to, "percent": _number(percent)}
    except ValueError:
        raise ValueError(f"got --shadow {text}; expected a percentage after the colon") from None


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value
