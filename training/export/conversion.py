"""Adds verified ONNX graphs to any SavedModel, for `ladle convert`.

Each signature is converted and compared with TensorFlow. Graphs that agree are written beside the SavedModel, and the
model card says which signature runs which graph. Nothing else in the folder changes. A SavedModel is a program, and the
comparison runs it: convert only models that you would serve.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf import message, text_format

from ladle.training.export.advice import obstacle
from ladle.training.export.attempts import Attempts
from ladle.training.export.signature import SignatureConversion, Tell
from ladle.training.export.version import (
    ConvertError,
    file_name,
    methods,
    new_card,
    saved_model,
    version_folder,
    write_graphs,
)
from ladle.training.onnx import effects
from ladle.training.onnx.convert import OPSET, NotConvertibleError, first_line
from ladle.training.onnx.parity import MismatchError
from ladle.training.onnx.rewrites.inline import with_own_names
from ladle.training.onnx.same import fingerprints
from ladle.training.store import card, publish, savedmodel, warmup

ALONE = Attempts()
"""Runs that no other process watches."""


@dataclass
class Conversion:
    """Result of converting a version folder.

    graphs   signature -> its ONNX file, new or kept
    parity   signature -> how closely that graph agrees with TensorFlow
    reasons  signature -> why it has no graph
    obstacles  signature -> the operation that stopped its conversion, the layer that made it, and the cure
    seconds  signature -> how long its conversion took; without those that had a graph before
    """

    folder: Path
    graphs: dict[str, str] = field(default_factory=dict)
    parity: dict[str, dict[str, Any]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    obstacles: dict[str, dict[str, str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)

    @property
    def complete(self) -> bool:
        """Whether every signature that was asked for has a graph."""
        return bool(self.graphs) and not self.reasons

    @property
    def done(self) -> bool:
        """Whether serving_default has a graph; in a model without serving_default, whether any signature has one."""
        return "serving_default" in self.graphs or (bool(self.graphs) and "serving_default" not in self.reasons)


def convert(
    directory: Path,
    attempts: Attempts = ALONE,
    tell: Tell = lambda line: None,
    *,
    only: Collection[str] = (),
    tolerance: float | None = None,
    reason: str = "",
    write: bool = True,
) -> Conversion:
    """Add ONNX graphs and a card to a version folder, or to the newest version in a model's folder.

    attempts  watches the runs. On some inputs TensorFlow ends the process; `ladle convert` runs this in a child
    tell      gets lines that say how far the conversion is
    only      the signatures to convert; empty: all
    tolerance allowed difference of float outputs, relative to the largest magnitude of each; the card keeps it
    reason    why it may be that large, for the card
    write     whether to write graphs and card; the folder stays as it is otherwise

    Signatures with a graph are skipped, unless another SavedModel was exported to the folder since. A graph that an
    earlier version made for a signature with state or checks is no longer used.

    ConvertError when there is no SavedModel, TensorFlow cannot load it, or a graph would overwrite a file of the user.
    """
    folder = version_folder(directory)
    try:
        old = card.read(folder)
        saved = saved_model(folder)
        loaded = savedmodel.load(folder)
        warm = warmup.read(folder / warmup.FILE) if (folder / warmup.FILE).is_file() else []
    except savedmodel.LoadError as error:  # it names the folder already
        raise ConvertError(str(error)) from error
    except (ValueError, OSError, message.Error, text_format.ParseError, tf.errors.OpError) as error:
        raise ConvertError(f"{folder} cannot be loaded: {first_line(error)}") from error
    if unknown := sorted(set(only) - set(loaded.signatures)):
        known = ", ".join(sorted(loaded.signatures)) or "none"
        raise ConvertError(f'{folder} has no signature "{unknown[0]}"; expected one of {known}')
    inputs = {name: list(d.inputs) for graph in saved.meta_graphs for name, d in graph.signature_def.items()}
    method_of, findings = methods(saved), [effects.find(graph) for graph in saved.meta_graphs]
    # Signatures that cannot be served by a graph, whatever it answers in a comparison.
    stay = {name: reason for found in findings for name, reason in found.reasons.items()}
    checked = {name: kinds for found in findings for name, kinds in found.checks.items()}
    vain = {name for found in findings for name in found.vain}
    checksum = savedmodel.checksum(folder)
    # The card of a model that was in this folder before: its graphs answer as that model did.
    stale = old is not None and old.get("saved_model", {}).get("sha256", checksum) != checksum
    content = (None if stale else old) or new_card(folder)
    entries, graphs = dict(content["signatures"]), dict(content["onnx"])
    with contextlib.ExitStack() as drafts:
        draft = functools.cache(
            lambda: (
                drafts.enter_context(publish.draft(folder))
                if write
                else Path(drafts.enter_context(tempfile.TemporaryDirectory()))
            )
        )
        try:
            result = Conversion(folder)
            files: dict[str, bytes] = {}
            weights: dict[str, Path] = {}
            prints = {name: text for graph in saved.meta_graphs for name, text in fingerprints(graph).items()}
            twins: dict[str, str] = {}  # the first signature of each fingerprint
            is_changed = stale
            asked = [name for name in loaded.signatures if not only or name in only]
            for number, name in enumerate(sorted(asked, key=lambda name: (name != "serving_default", name)), 1):
                function, started = with_own_names(loaded.signatures[name], inputs[name]), time.monotonic()
                twin = twins.setdefault(prints.get(name, name), name)
                kept = entries.get(name, {}).get("graph")
                if kept and name in stay and content["task"] is None:  # an earlier version made it a graph
                    del entries[name]
                    kept, is_changed = None, True
                if kept and (graphs.get(kept) or {}).get("parity"):
                    result.graphs[name], result.parity[name] = kept, graphs[kept]["parity"]
                    continue
                graphs.pop(kept, None)  # it was never compared, so no server runs it
                specs = function.structured_input_signature[1]
                entry = functools.partial(
                    card.signature, method_of.get(name, "predict"), specs, function.structured_outputs
                )
                try:
                    if name in stay:
                        raise NotConvertibleError(stay[name])
                    if twin in result.reasons:
                        raise NotConvertibleError(result.reasons[twin])
                    if twin in result.graphs:
                        steps = {when: entries[twin].get(when, []) for when in ("before", "after")}
                        entries[name] = entry(graph=result.graphs[twin], before=steps["before"], after=steps["after"])
                        result.graphs[name], result.parity[name], is_changed = (
                            result.graphs[twin],
                            result.parity[twin],
                            True,
                        )
                        continue
                    file = file_name(name, graphs)
                    real = [w.inputs for w in warm if w.signature == name]
                    made = SignatureConversion(
                        name,
                        function,
                        real,
                        attempts,
                        functools.partial(_numbered, tell, f"[{number}/{len(asked)}] "),
                        functools.partial(_data_file, draft, file),
                        tolerance,
                        checked.get(name, ()),
                        name in vain,
                    ).make()
                except Exception as error:
                    if not isinstance(error, NotConvertibleError | MismatchError):
                        if isinstance(error, ConvertError | OSError):
                            raise
                        # A model that nobody has seen before must not end the conversion of its other signatures.
                        error = NotConvertibleError(
                            f"the converter failed on it ({type(error).__name__}: {first_line(error)})"
                        )
                    result.reasons[name] = str(error)
                    result.obstacles[name] = obstacle(str(error), function).as_dict()
                    result.seconds[name] = round(time.monotonic() - started, 1)
                    entries.setdefault(name, entry(reason=str(error)))
                    continue
                equal = [file for file, written in files.items() if written == made.model and not made.programs]
                file = equal[0] if equal else file
                files[file], is_changed = made.model, True
                steps, programs = made.steps(Path(file).stem)
                files |= programs
                if made.weights is not None:
                    weights[file] = made.weights
                measured = made.as_dict | ({"reason": reason} if tolerance is not None else {})
                graphs[file] = card.graph(made.model, OPSET, measured) | made.notes
                first, last = [*made.before, *steps["before"]], [*steps["after"], *made.after]
                entries[name] = entry(graph=file, before=first, after=last)
                result.graphs[name], result.parity[name] = file, measured
                result.seconds[name] = round(time.monotonic() - started, 1)
            for name in loaded.signatures.keys() - set(asked) - entries.keys():  # the card has every signature
                of = with_own_names(loaded.signatures[name], inputs[name])
                entries[name] = card.signature(
                    method_of.get(name, "predict"),
                    of.structured_input_signature[1],
                    of.structured_outputs,
                    reason="it was not asked for",
                )
            if is_changed and write:
                content |= {"signatures": entries, "onnx": graphs, "saved_model": {"sha256": checksum}}
                before = old["onnx"] if stale and old else {}
                obsolete = {*before, *(f"{file}.data" for file, graph in before.items() if "weights" in graph)}
                obsolete |= set(card.programs(old)) if stale and old else set()
                write_graphs(
                    folder, files, weights, content, obsolete - set(files) - {path.name for path in weights.values()}
                )
            return result
        except OSError as error:
            raise ConvertError(f"{folder} cannot be written: {error.strerror}") from error


def _numbered(tell: Tell, prefix: str, line: str) -> None:
    tell(prefix + line)


def _data_file(draft: Callable[[], Path], graph: str) -> Path:
    return draft() / f"{graph}.data"
