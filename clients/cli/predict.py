"""The verbs for any signature, metadata and predict; and inputs and arrays on a command line."""

from __future__ import annotations

import argparse
import base64
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ladle.clients.cli.options import version_of
from ladle.clients.drawing import terminal
from ladle.clients.json_output import print_json
from ladle.clients.library import tasks
from ladle.clients.library.client import Client
from ladle.clients.transport.metadata import TensorInfo, describe

SHOWN = 8
"""Rows and columns of an array that are printed."""


def metadata(client: Client, given: argparse.Namespace) -> None:
    """Print the signatures with dtype and shape of each input and output."""
    found = client.metadata(given.name, **version_of(given))
    verbs = tasks.of_metadata(found).cli_verbs
    if given.json:
        signatures = {
            name: {"method": s.method, "inputs": _infos(s.inputs), "outputs": _infos(s.outputs)}
            for name, s in found.signatures.items()
        }
        print_json({"model": found.name, "version": found.version, "verbs": verbs, "signatures": signatures})
        return
    print(f"{terminal.paint(found.name, 'bold')} version {found.version}")
    if verbs:
        print(f"answers {', '.join(f'ladle {verb}' for verb in verbs)}")
    rows = [("SIGNATURE", "", "NAME", "TENSOR")]
    for name, signature in found.signatures.items():
        for kind, tensors in (("in", signature.inputs), ("out", signature.outputs)):
            rows += [(name, kind, alias, str(info)) for alias, info in tensors.items()]
    shown = [rows[0], *((a if a != b[0] else "", *rest) for (a, *rest), b in zip(rows[1:], rows, strict=False))]
    print(terminal.table(shown))


def predict(client: Client, given: argparse.Namespace) -> None:
    """Print or write the outputs of a signature for the given inputs."""
    signature = client.metadata(given.name, **version_of(given)).signatures.get(given.signature)
    inputs = read_inputs(given.input, signature.inputs if signature else {})
    targets = dict(_pair(text, "--output NAME=FILE.npy") for text in given.output)
    start = time.perf_counter()
    answer = client.predict(given.name, inputs, given.signature, **version_of(given))
    took_ms = 1000 * (time.perf_counter() - start)
    for name, file in targets.items():
        if name not in answer:
            raise ValueError(f'{given.name}: got --output "{name}"; expected {", ".join(sorted(answer))}')
        write_array(Path(file), answer[name])
    if given.json:
        outputs = {name: {"tensor": describe(array), "values": as_json(array)} for name, array in answer.items()}
        print_json({"outputs": outputs, "latency_ms": took_ms})
        return
    for name, array in sorted(answer.items()):
        print(f"{terminal.paint(name, 'bold')}  {terminal.paint(describe(array), 'dim')}")
        print(_shown(array))
    for name, file in targets.items():
        print(f"wrote {name} to {file}")
    print(terminal.paint(f"{took_ms:.1f} ms", "dim"))


def read_inputs(texts: Sequence[str], declared: Mapping[str, TensorInfo] | None = None) -> dict[str, Any]:
    """Inputs from `NAME=VALUE`: JSON, else text; @FILE stands for its content. OSError, ValueError: unreadable.

    declared  what the signature takes: for float32 [?], `area=70` is one row, and for strings `sold=true` a text
    """
    pairs = [_pair(text, "--input NAME=VALUE") for text in texts]
    return {name: _fitted(_value(text), text, (declared or {}).get(name)) for name, text in pairs}


def _fitted(value: Any, text: str, info: TensorInfo | None) -> Any:
    """A single value as one row, and as text where the signature takes strings; any other value as it is."""
    if info is None or not isinstance(value, str | int | float):
        return value
    if info.dtype == "string" and not text.startswith(("@", '"')):
        value = text
    return [value] if info.shape in ((None,), (1,)) else value


def _value(text: str) -> Any:
    if not text.startswith("@"):
        try:
            return json.loads(text, parse_float=_float)
        except json.JSONDecodeError:
            return text
    if text == "@-":
        return [sys.stdin.buffer.read()]
    path = Path(text[1:])
    if path.suffix == ".npy":
        return read_npy(path)
    if path.suffix == ".json":
        try:
            return json.loads(path.read_bytes(), parse_float=_float)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"got {path}, which is not JSON: {error}") from None
    return [path.read_bytes()]  # a batch of one, such as an image


def _float(text: str) -> float:
    """A number of JSON. ValueError: it is beyond float64, where Python would read infinity."""
    if math.isinf(value := float(text)):
        raise ValueError(f"got {text}; expected a number from -1.8e308 to 1.8e308")
    return value


def read_npy(path: Path) -> np.ndarray[Any, Any]:
    """The array in a .npy file. ValueError: it holds none, or objects."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        raise ValueError(f"got {path}; expected a .npy file with numbers or text") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"got several arrays in {path}; expected one, as np.save writes it")
    return array


def _pair(text: str, expected: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"got {text!r}; expected {expected}")
    return name, value


def write_array(file: Path, array: np.ndarray[Any, Any]) -> None:
    """Write numbers as .npy, or the bytes of a single string, such as a PNG. ValueError: several strings."""
    if array.dtype.kind != "O":
        with file.open("wb") as opened:  # given a name, np.save would append .npy
            np.save(opened, array, allow_pickle=False)
        return
    if array.size != 1:
        raise ValueError(f"{file}: got {describe(array)}; expected numbers or a single string")
    file.write_bytes(array.ravel()[0])


def _infos(tensors: Any) -> dict[str, Any]:
    def entry(info: TensorInfo) -> dict[str, Any]:
        return {"dtype": info.dtype, "shape": None if info.shape is None else list(info.shape)}

    return {name: entry(info) for name, info in tensors.items()}


def as_json(array: np.ndarray[Any, Any]) -> Any:
    """Nested lists; bytes become text, or {"b64": ...} if they are not UTF-8."""

    def leaf(value: Any) -> Any:
        if isinstance(value, list):
            return [leaf(item) for item in value]
        if not isinstance(value, bytes):
            return value if not isinstance(value, complex) else [value.real, value.imag]
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}

    return leaf(array.tolist())


def _shown(array: np.ndarray[Any, Any]) -> str:
    if array.dtype.kind == "O":
        items = [_text(value) for value in array.ravel()[:SHOWN]]
        return "  " + "\n  ".join(items + (["…"] if array.size > SHOWN else []))
    if array.size > SHOWN * SHOWN and array.dtype.kind in "biuf":
        low, high, mean = (f"{float(value):.5g}" for value in (array.min(), array.max(), array.mean()))
        return f"  {array.size:,} values from {low} to {high}, mean {mean}"
    text = np.array2string(array, precision=5, suppress_small=True, threshold=SHOWN * SHOWN)
    return "  " + text.replace("\n", "\n  ")


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return terminal.plain(value.decode())
        except UnicodeDecodeError:
            return f"{len(value)} bytes"
    return str(value)
