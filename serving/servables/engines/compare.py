"""Compares TensorFlow and ONNX Runtime on the inputs in a version's folder: warm-up requests and samples."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.serving.errors import ServingError
from ladle.serving.servables import matching, warmup
from ladle.serving.servables.engines.onnx import OnnxEngine
from ladle.serving.servables.engines.savedmodel import SavedModelEngine, is_available
from ladle.serving.servables.saved_model import INIT_OP, Signature, parse_signature, read_card, read_signature_defs

Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]
Compare = Callable[..., Any]
"""(reference, other, requests, rows, relative=...) -> their differences, with `max_abs`; ValueError when too large."""


class EnginesDifferError(ValueError):
    """A graph answers a request otherwise than TensorFlow; the text names the signature and the difference."""


def compare_engines(folder: Path, compare: Compare) -> str:
    """Load a version and run its warm-up requests and samples: on TensorFlow, and on ONNX Runtime where it has a graph.

    compare  training's parity check, passed in because serving imports nothing of training

    Returns a sentence that says what ran; made-up inputs are never run. EnginesDifferError: a graph is wrong.
    ValueError: the version cannot be loaded, or fails on its own requests. ModuleNotFoundError: no TensorFlow.
    """
    if not is_available():
        raise ModuleNotFoundError("TensorFlow is not installed", name="tensorflow")
    try:
        return _compare_engines(folder, compare)
    except ServingError as error:
        raise ValueError(error.message) from None
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from None


def _compare_engines(folder: Path, compare: Compare) -> str:
    definitions = {name: made for name, made in read_signature_defs(folder).items() if name != INIT_OP}
    signatures = {name: parse_signature(name, made) for name, made in definitions.items()}
    card = read_card(folder) or {}
    onnx = OnnxEngine(folder, card, signatures)
    tensorflow = SavedModelEngine(folder, ("serve",), signatures)
    tensorflow.load()
    if not signatures:
        return "loads in TensorFlow, nothing run: it has no signatures"
    requests: dict[str, list[dict[str, Array]]] = {}
    for name, inputs in (*warmup.read_requests(folder), *_samples(folder, signatures)):
        if name not in signatures:
            raise ValueError(f'a warm-up request asks the signature "{name}"; expected one of {", ".join(signatures)}')
        matching.check_names(signatures[name], inputs)
        matching.check_dtypes(signatures[name], inputs)
        requests.setdefault(name, []).append(dict(matching.complete(signatures[name], inputs)))
    if not requests:
        engines = "TensorFlow and ONNX Runtime" if onnx.plans else "TensorFlow"
        return f"loads in {engines}, nothing run: it has no warm-up requests and no samples"
    farthest = 0.0
    optimised = (card.get("quantized") or {}).get("graphs") or {}
    for name, asked in sorted(requests.items()):
        outputs = tuple(signatures[name].outputs)
        reference = partial(_run, tensorflow, name, outputs)
        try:
            if name not in onnx.plans:
                for inputs in asked:
                    reference(inputs)
                continue
            other = partial(_run, onnx, name, outputs)
            if card["signatures"][name]["graph"] in optimised:
                for inputs in asked:  # `ladle optimize` measured what its difference from TensorFlow costs
                    reference(inputs)
                    other(inputs)
                continue
            found = compare(reference, other, asked, len(asked), **_allowed(card, name))
            farthest = max(farthest, float(found.max_abs))
        except ServingError as error:
            raise ValueError(f"{name} fails on its own requests: {error.message}") from None
        except ValueError as error:
            raise EnginesDifferError(f"{name}: {error}") from None
    answered = [name for name in requests if name in onnx.plans]
    compared = [name for name in answered if card["signatures"][name]["graph"] not in optimised]
    if answered and not compared:
        return f"TensorFlow and the optimised graphs answer {_counted(requests, answered)}; their answers may differ"
    if not compared:
        return f"TensorFlow answers {_counted(requests, requests)}; there is no graph to compare it with"
    return f"TensorFlow and ONNX Runtime agree on {_counted(requests, compared)} within {farthest:.1e}"


def _allowed(card: Mapping[str, Any], signature: str) -> dict[str, float]:
    """The relative difference that was allowed when the graph was made, if it was more than float32 needs."""
    parity = card["onnx"][card["signatures"][signature]["graph"]][
        "parity"
    ]  # the engine has checked that they are there
    return {"relative": parity["relative"]} if isinstance(parity, dict) and "relative" in parity else {}


def _counted(requests: Mapping[str, Sequence[Any]], names: Collection[str]) -> str:
    count = sum(len(requests[name]) for name in names)
    return f"{count} request{'s' * (count != 1)} of {len(names)} signature{'s' * (len(names) != 1)}"


def _run(engine: Any, name: str, outputs: tuple[str, ...], inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    answer: Mapping[str, Array] = engine.run(name, inputs, outputs)
    return {alias: _pixels(tensors.widen(array)) for alias, array in answer.items()}


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
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return
    for name, signature in signatures.items():
        if len(signature.inputs) != 1:
            continue
        alias = next(iter(signature.inputs))
        for item in {"image_bytes": images, "text": texts}.get(alias, []):
            yield name, {alias: np.array([item], object)}
