"""Compares TensorFlow and ONNX Runtime on the inputs in a version's folder: warm-up requests and samples."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import ServingError
from ladle.serving.servables import matching, warmup
from ladle.serving.servables.engines.onnx import OnnxEngine
from ladle.serving.servables.engines.savedmodel import SavedModelEngine, is_available
from ladle.serving.servables.saved_model import Signature, parse_signature, read_card, read_signature_defs

Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]
Compare = Callable[[Run, Run, Iterable[Mapping[str, Array]], int], Any]
"""(reference, other, requests, rows) -> their differences, with `max_abs`; ValueError when they are too large."""


def compare_engines(folder: Path, compare: Compare) -> str:
    """Run every signature that has a graph on both engines; a sentence that says what was compared.

    compare  training's parity check, passed in because serving imports nothing of training

    ValueError names the signature that differs, or says why nothing can be compared; ModuleNotFoundError when
    TensorFlow is not installed.
    """
    if not is_available():
        raise ModuleNotFoundError("TensorFlow is not installed", name="tensorflow")
    try:
        signatures = {name: parse_signature(name, made) for name, made in read_signature_defs(folder).items()}
        onnx = OnnxEngine(folder, read_card(folder) or {}, signatures)
        tensorflow = SavedModelEngine(folder, ("serve",), signatures)
        tensorflow.load()
        requests: dict[str, list[dict[str, Array]]] = {}
        for name, inputs in (*warmup.read_requests(folder), *_samples(folder, signatures)):
            if name in onnx.plans:
                requests.setdefault(name, []).append(dict(matching.complete(signatures[name], inputs)))
        if not requests:
            raise ValueError("it has no graph, or came with no inputs to compare on")
        farthest = 0.0
        for name, asked in sorted(requests.items()):
            outputs = tuple(signatures[name].outputs)
            runs = [partial(_run, engine, name, outputs) for engine in (tensorflow, onnx)]
            try:
                farthest = max(farthest, float(compare(runs[0], runs[1], asked, len(asked)).max_abs))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    except ServingError as error:
        raise ValueError(error.message) from None
    count = sum(map(len, requests.values()))
    return f"TensorFlow and ONNX Runtime agree on {count} requests of {len(requests)} signatures within {farthest:.1e}"


def _run(engine: Any, name: str, outputs: tuple[str, ...], inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    answer: Mapping[str, Array] = engine.run(name, inputs, outputs)
    return {alias: _pixels(array) for alias, array in answer.items()}


def _pixels(array: Array) -> Array:
    """PNG images decoded, as two encoders write one image as different bytes; any other array unchanged."""
    if (
        array.dtype.kind != "O"
        or not array.size
        or not all(bytes(item).startswith(b"\x89PNG") for item in array.ravel())
    ):
        return array
    decoded = [np.asarray(Image.open(io.BytesIO(item))) for item in array.ravel()]
    return np.stack(decoded).reshape(*array.shape, *decoded[0].shape)


def _samples(folder: Path, signatures: Mapping[str, Signature]) -> Iterator[tuple[str, dict[str, Array]]]:
    """The version's sample images and texts, for each signature whose only input takes encoded images or text."""
    home = folder / "assets.extra" / "samples"
    try:
        entries = json.loads((home / "samples.json").read_bytes())
        texts = [entry["text"].encode() for entry in entries if "text" in entry]
        images = [(home / entry["file"]).read_bytes() for entry in entries if "file" in entry]
    except (OSError, ValueError, TypeError, KeyError):
        return
    for name, signature in signatures.items():
        if len(signature.inputs) != 1:
            continue
        alias = next(iter(signature.inputs))
        for item in {"image_bytes": images, "text": texts}.get(alias, []):
            yield name, {alias: np.array([item], object)}
