"""Exports a trained model as the next version in a model repository.

A version holds a SavedModel with all signatures, an ONNX graph for each core, labels and vocabulary, warm-up requests,
samples and the model card. It is checked before it becomes visible: the graphs agree with TensorFlow on real inputs,
and every signature of the written SavedModel is loaded and run.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ladle.models import Assets, Config, Network, Signature
from ladle.training.errors import ExportError
from ladle.training.export.requests import TEXT, request
from ladle.training.onnx import graphs, parity
from ladle.training.onnx.convert import first_line
from ladle.training.store import card, publish, savedmodel, warmup
from ladle.training.store.samples import FOLDER as SAMPLES
from ladle.training.store.samples import Samples, write_samples

__all__ = ["ExportError", "Run", "Samples", "export"]

PARITY_INPUTS = 64
"""Smallest number of real inputs on which TensorFlow and ONNX Runtime must agree."""

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Run:
    """The facts of a training run that go into the card, besides the config.

    data     the data set's provenance, and `splits`: the number of examples in each
    metrics  values by split, then by metric
    machine  the training machine, in words
    trained  further entries of the card: `pretrained`, the weights that training started from, and `stages`
    """

    data: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    epochs: int
    training_seconds: float
    machine: str
    preset: str | None = None
    trained: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def export(
    network: Network,
    model: Any,
    config: Config,
    assets: Assets,
    run: Run,
    *,
    repository: Path,
    name: str | None = None,
    parity_inputs: Arrays,
    samples: Samples,
    report: Path | None = None,
) -> Path:
    """Write the next version to `repository`/<name>/ and return its folder.

    model          the trained keras.Model
    name           the model's name; None: the network's
    parity_inputs  at least PARITY_INPUTS real inputs of serving_default by name, batch first; small images are enough
                   for a network that takes any height and width
    samples        real test inputs with their true answers
    report         folder whose PNG pictures are copied into the version

    The version becomes visible only when complete. ExportError when TensorFlow and ONNX Runtime disagree, a signature
    fails, or the inputs do not fit.
    """
    try:
        signatures = graphs.share_cores(network.signatures(model, config, assets))
        _check_inputs(signatures["serving_default"], parity_inputs)
        functions = savedmodel.trace(signatures)
        with publish.draft(repository / (name or network.name)) as folder:
            savedmodel.write(folder, signatures, functions)
            chosen = graphs.inputs(signatures, parity_inputs)
            entries, reasons = graphs.write(folder, signatures, chosen)
            text = samples.texts[0] if samples.texts else TEXT
            requests = {name: request(s, _first_row(chosen[s.core.name]), text) for name, s in signatures.items()}
            _check_signatures(folder, functions, requests)
            _write_words(folder / "assets", assets)
            write_samples(folder / SAMPLES, samples)
            _copy_pictures(report, folder / "assets.extra" / "report")
            warm = [warmup.WarmUp(name, requests[name], s.method) for name, s in signatures.items()]
            warmup.write(folder / warmup.FILE, name or network.name, warm)
            entry = _card(network, model, config, assets, run) | {
                "signatures": {name: _signature(s, functions[name], reasons) for name, s in signatures.items()},
                "onnx": entries,
                "saved_model": {"sha256": savedmodel.checksum(folder)},
                "size_bytes": card.size_bytes(folder),
            }
            return publish.publish(folder, lambda version: _write_card(folder, {**entry, "version": version}))
    except (ValueError, OSError, tf.errors.OpError) as error:
        raise ExportError(f"{network.name} was not exported: {first_line(error)}") from error


def _card(network: Network, model: Any, config: Config, assets: Assets, run: Run) -> dict[str, Any]:
    """The entries of the card that do not depend on the written files."""
    return {
        "format": card.FORMAT,
        "network": network.name,
        "task": network.task,
        "created": card.now(),
        "description": network.summary,
        "config": json.loads(json.dumps(dataclasses.asdict(config))),
        "preset": run.preset,
        "seed": config.seed,
        "data": dict(run.data),
        "labels": list(assets.labels) or None,
        "metrics": {split: dict(figures) for split, figures in run.metrics.items()},
        "epochs": run.epochs,
        "training_seconds": round(run.training_seconds, 1),
        "machine": run.machine,
        "parameters": int(model.count_params()),
        "versions": card.versions(),
        "commit": card.commit(),
        **run.trained,
    }


def _signature(signature: Signature, function: Any, reasons: Mapping[str, str]) -> dict[str, Any]:
    """The card's entry for a signature: method, graph or reason, steps, inputs and outputs."""
    core = signature.core
    runs = {"reason": reasons[core.name]} if core.name in reasons else {"graph": core.file}
    return card.signature(
        signature.method,
        signature.inputs,
        {name: function.structured_outputs[name] for name in signature.outputs},
        before=[step.described for step in signature.before],
        after=[step.described for step in signature.after],
        **runs,
    )


def _check_inputs(default: Signature, inputs: Arrays) -> None:
    if sorted(inputs) != sorted(default.inputs):
        got, expected = (", ".join(sorted(names)) for names in (inputs, default.inputs))
        raise ValueError(f"parity inputs are {got}; expected {expected}")
    rows = {len(array) for array in inputs.values()}
    if len(rows) > 1 or min(rows) < PARITY_INPUTS:
        raise ValueError(f"got {min(rows)} parity inputs; expected at least {PARITY_INPUTS} real ones")


def _check_signatures(folder: Path, functions: Mapping[str, Any], requests: Mapping[str, Arrays]) -> None:
    """Load the written SavedModel and compare its outputs with those of the model in memory."""
    loaded = savedmodel.load(folder)
    for name, arrays in requests.items():
        try:
            in_memory, written = (
                functools.partial(savedmodel.run, f) for f in (functions[name], loaded.signatures[name])
            )
            parity.compare(in_memory, written, [arrays], rows=1)
        except (parity.MismatchError, tf.errors.OpError) as error:
            raise ValueError(f'signature "{name}" of the written SavedModel fails: {error}') from error


def _first_row(arrays: Arrays) -> dict[str, np.ndarray]:
    return {name: array[:1] for name, array in arrays.items()}


def _write_words(folder: Path, assets: Assets) -> None:
    """Write labels and vocabulary as UTF-8, one per line."""
    folder.mkdir(exist_ok=True)
    for name, words in (("labels.txt", assets.labels), ("vocabulary.txt", assets.vocabulary)):
        if any("\n" in word for word in words):
            raise ValueError(f"a word of {name} contains a line break; expected one word per line")
        if words:
            (folder / name).write_bytes("".join(f"{word}\n" for word in words).encode())


def _copy_pictures(report: Path | None, target: Path) -> None:
    pictures: Sequence[Path] = sorted(report.glob("*.png")) if report else []
    for picture in pictures:
        target.mkdir(exist_ok=True)
        shutil.copyfile(picture, target / picture.name)


def _write_card(folder: Path, content: Mapping[str, Any]) -> None:
    publish.write_file(folder / card.FILE, card.encode(content))
