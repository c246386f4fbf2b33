"""Model cards, as training writes them into a version's folder, and the one reader that checks them."""

from __future__ import annotations

import contextlib
import json
import stat
from pathlib import Path
from typing import Any

from ladle.clients.near_names import hint
from ladle.clients.wire.versions import find_versions

Json = dict[str, Any]

FILE = Path("assets.extra") / "card.json"
LABEL_FILES = (Path("assets") / "labels.txt", Path("assets.extra") / "labels.txt")
"""Where a version may name its classes: a line each, in the order of their ids. A card's labels come first."""
MAX_BYTES = 2**20
"""Largest JSON file that is read: 1 MiB. Cards have a few kB; parsing may take twenty times the size in memory."""
MAX_DEPTH = 32
MAX_DIGITS = 21
"""Longest integer. A longer one cannot be shown as a float, and is read in quadratic time."""

_ANY = object()
"""Stands for every name of an object."""
_NUMBER, _LABEL = (int, float), (str, int, float)
_TENSORS = {_ANY: {"dtype": str, "shape": [(int, type(None))]}}
_PARITY = {"inputs": int, "max_abs": _NUMBER, "max_rel": _NUMBER, "argmax_equal": bool}
_COLUMN = {**dict.fromkeys(("name", "about", "unit"), str), "low": _NUMBER, "high": _NUMBER, "categories": [str]}
_CARD: dict[Any, Any] = {
    "network": str,
    "task": str,
    "created": str,
    "description": str,
    "config": {},
    "seed": int,
    "data": {
        **dict.fromkeys(("name", "source", "origin", "licence", "notes", "sha256"), str),
        "synthetic": bool,
        "splits": {_ANY: int},
        "columns": [_COLUMN],
        "target": _COLUMN,
    },
    "labels": [_LABEL],
    "metrics": {_ANY: {}},
    "headline": {"name": str, "value": _NUMBER, "split": str},
    "epochs": int,
    "training_seconds": _NUMBER,
    "machine": str,
    "signatures": {_ANY: {"method": str, "inputs": _TENSORS, "outputs": _TENSORS}},
    "onnx": {_ANY: {"sha256": str, "size_bytes": int, "parity": _PARITY}},
    "quantized": {
        "from_version": int,
        "graphs": {_ANY: {"method": str, "ratio": _NUMBER}},
        "headline": {"name": str, "split": str, "before": _NUMBER, "after": _NUMBER},
        "processor": str,
    },
    "parameters": int,
    "size_bytes": int,
    "versions": {},
    "commit": str,
}
"""What readers of a card rely on. A member may be absent or null, as in cards of older versions.

A pattern is a type or several; a list of one pattern for each item; an object with patterns by name.
"""
_SAMPLES: list[Any] = [{"file": str, "mask": str}]
_CALLED = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
}


def versions(repository: Path, name: str) -> list[int]:
    """The versions in a model repository, oldest first."""
    return list(find_versions(repository / name))


def folder(repository: Path, name: str, version: int | None = None) -> Path:
    """The folder of a version, by default the newest. FileNotFoundError: there is none; it names those that exist."""
    found = find_versions(repository / name)
    if version is None and found:
        version = max(found)
    if version is None or version not in found:
        there = f"it has {', '.join(map(str, found))}" if found else _others(repository, name)
        asked = f"version {version} of {name}" if found else name
        raise FileNotFoundError(f"{repository} holds no {asked}; {there}")
    return found[version]


def _others(repository: Path, name: str) -> str:
    if not repository.is_dir():
        return "the folder does not exist; name the model repository with --repository"
    names = sorted(child.name for child in repository.iterdir() if child.is_dir() and versions(repository, child.name))
    if not names:
        return "train one with `ladle train lenet5 --preset quick`"
    return hint(name, names, f"it has {', '.join(names)}")


def read(version: Path) -> Json | None:
    """The card in a version's folder; None if there is none. ValueError: a sentence on what is wrong with it."""
    try:
        return read_card(version / FILE)
    except FileNotFoundError:
        return None


def read_card(path: Path) -> Json:
    """The card in a file, checked. FileNotFoundError: no such file; ValueError: a sentence on what is wrong with it."""
    card: Json = _checked(path, _CARD)
    return card


def read_labels(path: Path) -> list[str]:
    """The lines of a `labels.txt`. FileNotFoundError: no such file; ValueError: a sentence on what is wrong with it."""
    try:
        lines = _content(path, "a text file").decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path.name}: got bytes that are not UTF-8; expected a label on each line") from None
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.strip() for line in lines]


def read_samples(path: Path) -> list[Json]:
    """The entries of a `samples.json`, checked like a card."""
    samples: list[Json] = _checked(path, _SAMPLES)
    return samples


def _checked(path: Path, pattern: Any) -> Any:
    try:
        value = _parsed(path)
        _check(value, pattern, "")
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}; export the model again, or remove the file") from None
    return value


def _content(path: Path, expected: str) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would wait for ever
            raise ValueError(f"got something that is no regular file; expected {expected}")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise ValueError(f"got {error.strerror or error}; expected a file that can be read") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"got more than {MAX_BYTES:,} bytes; expected at most as many")
    return content


def _parsed(path: Path) -> Any:
    content = _content(path, "a JSON file")
    try:
        value = json.loads(content.decode("utf-8"), parse_int=_integer)
    except RecursionError:
        raise ValueError(f"got lists and objects nested too deep; expected at most {MAX_DEPTH} levels") from None
    except ValueError as error:
        said = f"got no JSON ({error})" if isinstance(error, json.JSONDecodeError) else f"got {error}"
        if isinstance(error, UnicodeDecodeError):
            said = "got bytes that are not UTF-8"
        raise ValueError(f"{said}; expected JSON in UTF-8") from None
    _check_tree(value)
    return value


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _check_tree(value: Any) -> None:
    """ValueError: the value is nested too deep for recursive functions, or a text of it cannot be encoded."""
    waiting = [(value, 1)]
    while waiting:
        each, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"got lists and objects nested too deep; expected at most {MAX_DEPTH} levels")
        items = [*each, *each.values()] if isinstance(each, dict) else each if isinstance(each, list) else ()
        waiting += [(item, depth + 1) for item in items]
        if isinstance(each, str) and not each.isascii():
            try:
                each.encode()
            except UnicodeEncodeError:
                raise ValueError("got half of a surrogate pair; expected Unicode text") from None


def _check(value: Any, pattern: Any, where: str) -> None:
    """ValueError: the value does not have the types of the pattern; it names the first place."""
    types = type(pattern) if isinstance(pattern, dict | list) else pattern
    known = types if isinstance(types, tuple) else (types,)
    if not isinstance(value, known) or (isinstance(value, bool) and bool not in known):
        named = [each for each in known if each in _CALLED and not (each is int and float in known)]
        expected = " or ".join(_CALLED[each] for each in named)
        got = next((called for each, called in _CALLED.items() if isinstance(value, each)), "null")
        raise ValueError(f"{where + ': ' if where else ''}got {got}; expected {expected}")
    if isinstance(pattern, list):
        for number, item in enumerate(value):
            _check(item, pattern[0], f"{where}[{number}]")
    elif isinstance(pattern, dict):
        for name, item in value.items():
            if _ANY in pattern:
                _check(item, pattern[_ANY], _below(where, name))
            elif name in pattern and item is not None:
                _check(item, pattern[name], _below(where, name))


def _below(where: str, name: str) -> str:
    shown = name if name.isprintable() and len(name) <= 40 else "..."
    return f"{where}.{shown}" if where else shown


def labels(repository: Path, name: str, version: int | None = None) -> list[str]:
    """The labels of the classes, by class id: the card's, or else those of a `labels.txt`; empty if there are none."""
    try:
        home = folder(repository, name, version)
    except FileNotFoundError:
        return []
    found: list[Any] = []
    with contextlib.suppress(ValueError):
        found = (read(home) or {}).get("labels") or []
    for file in () if found else LABEL_FILES:
        with contextlib.suppress(FileNotFoundError, ValueError):
            found = found or read_labels(home / file)
    return [str(label) for label in found]
