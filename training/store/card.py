"""The model card, card.json: what a version is, how it was made and how its signatures run."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

import ladle
from ladle.models import TASKS

FILE = "assets.extra/card.json"
FORMAT = 1

REQUIRED: dict[str, tuple[type, ...]] = {
    "format": (int,),
    "network": (str,),
    "task": (str, type(None)),
    "version": (int,),
    "created": (str,),
    "description": (str,),
    "config": (dict,),
    "preset": (str, type(None)),
    "seed": (int, type(None)),
    "data": (dict,),
    "labels": (list, type(None)),
    "metrics": (dict,),
    "epochs": (int, type(None)),
    "training_seconds": (int, float, type(None)),
    "machine": (str, type(None)),
    "signatures": (dict,),
    "onnx": (dict,),
    "parameters": (int, type(None)),
    "size_bytes": (int,),
    "versions": (dict,),
    "commit": (str, type(None)),
}
_METHODS = ("predict", "classify", "regress")


def read(version: Path) -> dict[str, Any] | None:
    """The card of a version folder, or None if it has none; ValueError when the file is not a valid card."""
    path = version / FILE
    if not path.is_file():
        return None
    try:
        card = json.loads(path.read_bytes())
        validate(card)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a model card: {error}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    return dict(card)


def encode(card: Mapping[str, Any]) -> bytes:
    """The card as JSON in UTF-8, required entries first and in a fixed order; ValueError when it is not valid."""
    validate(card)
    ordered = {key: card[key] for key in REQUIRED} | dict(card)
    return (json.dumps(ordered, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def validate(card: Any) -> None:
    """ValueError if an entry is missing or wrong; the message names the first."""
    if not isinstance(card, dict):
        raise ValueError(f"got {type(card).__name__}; expected a JSON object")
    for key, types in REQUIRED.items():
        if key not in card:
            raise ValueError(f'"{key}" is missing')
        if not isinstance(card[key], types) or isinstance(card[key], bool):
            raise ValueError(f'"{key}" is {card[key]!r}; expected {" or ".join(t.__name__ for t in types)}')
    if card["format"] != FORMAT:
        raise ValueError(f'"format" is {card["format"]}; this version of Ladle reads {FORMAT}')
    if card["task"] is not None and card["task"] not in TASKS:
        raise ValueError(f'"task" is {card["task"]!r}; expected one of {", ".join(TASKS)}')
    described = card.get("saved_model", {"sha256": ""})
    if not isinstance(described, dict) or not isinstance(described.get("sha256"), str):
        raise ValueError(f'"saved_model" is {described!r}; expected an object with "sha256"')
    for name, signature in card["signatures"].items():
        _validate_signature(f'signature "{name}"', signature, card["onnx"])
    for file, graph in card["onnx"].items():
        if "/" in file or not file.endswith(".onnx"):
            raise ValueError(f'"onnx" names {file!r}; expected a file name that ends in .onnx')
        if not {"opset", "size_bytes", "sha256", "parity"} <= set(graph):
            raise ValueError(f'"onnx" of {file} lacks one of opset, size_bytes, sha256, parity')


def _validate_signature(where: str, signature: Any, graphs: Mapping[str, Any]) -> None:
    if not isinstance(signature, dict) or signature.get("method") not in _METHODS:
        raise ValueError(f"{where} has no method; expected one of {', '.join(_METHODS)}")
    for side in ("inputs", "outputs"):
        tensors = signature.get(side)
        if not isinstance(tensors, dict) or not all({"dtype", "shape"} <= set(t) for t in tensors.values()):
            raise ValueError(f"{where} has no {side} with dtype and shape")
    graph = signature.get("graph")
    if graph is None and not isinstance(signature.get("reason"), str):
        raise ValueError(f"{where} has neither a graph nor a reason why it has none")
    if graph is not None and graph not in graphs:
        raise ValueError(f'{where} runs {graph}, which "onnx" does not describe')
    for when in ("before", "after"):
        if not all(isinstance(step, dict) and isinstance(step.get("op"), str) for step in signature.get(when, [])):
            raise ValueError(f'{where} has a step without "op" in {when}')


def tensors(specs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Dtype and shape of named tensors, for the card: a free axis is None, and so is the shape of unknown rank."""
    return {name: {"dtype": spec.dtype.name, "shape": _shape(spec.shape)} for name, spec in specs.items()}


def signature(
    method: str,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    *,
    before: Sequence[Mapping[str, Any]] = (),
    after: Sequence[Mapping[str, Any]] = (),
    **runs: str,
) -> dict[str, Any]:
    """The card's entry for a signature.

    inputs, outputs  tensors or specs by name
    before, after    entries of the steps around the graph
    runs             graph=FILE, or reason=SENTENCE if no graph can run it
    """
    entry = {"method": method, **runs, "before": list(before), "after": list(after)}
    return {**entry, "inputs": tensors(inputs), "outputs": tensors(outputs)}


def graph(content: bytes, opset: int, parity: Mapping[str, Any]) -> dict[str, Any]:
    """The card's entry for an ONNX file with this content."""
    digest = hashlib.sha256(content).hexdigest()
    return {"opset": opset, "size_bytes": len(content), "sha256": digest, "parity": dict(parity)}


def programs(card: Mapping[str, Any]) -> list[str]:
    """The files of the card's host steps."""
    entries = card["signatures"].values()
    steps = [step for entry in entries for when in ("before", "after") for step in entry.get(when, [])]
    return [step["file"] for step in steps if step["op"] == "host"]


def now() -> str:
    """The current time in UTC as ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def size_bytes(folder: Path) -> int:
    """Total size in bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a model depends on."""
    found = {"python": platform.python_version()}
    for name in ("ladle", "tensorflow", "keras", "numpy", "onnx", "onnxruntime", "tf2onnx"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout, or a build under another name
            continue
    return found


def commit() -> str | None:
    """The git commit of the checkout that this code runs from, `-dirty` if changed; None for an installed package."""
    root = Path(ladle.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def _shape(shape: tf.TensorShape) -> list[int | None] | None:
    return None if shape.rank is None else shape.as_list()
