"""Chooses what each signature of a version runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ladle.serving.errors import FailedPrecondition, InvalidArgument
from ladle.serving.servables.engines import tflite as tflite_engine
from ladle.serving.servables.engines.onnx import OnnxEngine
from ladle.serving.servables.engines.savedmodel import SavedModelEngine, is_available
from ladle.serving.servables.saved_model import parse_signature, read_card, read_signature_defs
from ladle.serving.servables.servable import Engine

KINDS = ("auto", "onnx", "tensorflow")
INIT_OP = "__saved_model_init_op"


@dataclass(frozen=True)
class EngineOptions:
    """What the flags say of engines.

    kind                onnx, tensorflow or auto: a signature's verified graph where there is one
    tags                of the MetaGraph that is served
    intra_op, inter_op  threads within and between operations; 0: measured (ONNX Runtime), all cores (TensorFlow)
    tflite_interpreters how many run a version's model.tflite, where it has one; 0: it is not looked for
    """

    kind: str = "auto"
    tags: tuple[str, ...] = ("serve",)
    intra_op: int = 0
    inter_op: int = 0
    tflite_interpreters: int = 0


def engine_options(options: SimpleNamespace) -> EngineOptions:
    """By the flags; InvalidArgument for an engine that there is not."""
    if options.engine not in KINDS:
        raise InvalidArgument(f"--engine={options.engine} is none; wanted one of {', '.join(KINDS)}")
    both = max(0, options.tensorflow_session_parallelism)
    return EngineOptions(
        kind=options.engine,
        tags=tuple(tag for tag in options.saved_model_tags.split(",") if tag),
        intra_op=max(0, options.tensorflow_intra_op_parallelism) or both,
        inter_op=max(0, options.tensorflow_inter_op_parallelism) or both,
        tflite_interpreters=(
            max(1, options.num_tflite_pools) * max(1, options.num_tflite_interpreters_per_pool)
            if options.prefer_tflite_model
            else 0
        ),
    )


def open_version(
    folder: Path, options: EngineOptions
) -> tuple[Mapping[str, Any], dict[str, Engine], OnnxEngine | None]:
    """The SignatureDef messages by name, the engine of each, and ONNX Runtime's if it is among them.

    NotFound without saved_model.pb, FailedPrecondition when no engine can run the version, DataLoss when its files
    are damaged.
    """
    if options.tflite_interpreters and (folder / tflite_engine.FILE).exists():
        tflite = tflite_engine.TfliteEngine(folder, options.tflite_interpreters)
        return tflite.definitions, dict.fromkeys(tflite.definitions, tflite), None
    definitions = read_signature_defs(folder, options.tags)
    return definitions, *open_engines(folder, definitions, options)


def open_engines(
    folder: Path, definitions: Mapping[str, Any], options: EngineOptions
) -> tuple[dict[str, Engine], OnnxEngine | None]:
    """The engine of each signature of a SavedModel, and ONNX Runtime's if it is among them; errors as above."""
    signatures = {name: parse_signature(name, definition) for name, definition in definitions.items()}
    onnx = None if options.kind == "tensorflow" else _open_onnx(folder, signatures, options)
    tensorflow = SavedModelEngine(folder, options.tags, signatures, options.intra_op, options.inter_op)
    if onnx is None:
        if options.kind == "onnx":
            raise FailedPrecondition(
                "the version has no verified ONNX graph, and the server runs with --engine=onnx; add a graph with "
                "`ladle convert`, or start the server with --engine=auto"
            )
        tensorflow.load()
    engines: dict[str, Engine] = {}
    for name in definitions:
        if onnx is not None and name in onnx.plans:
            engines[name] = onnx
        elif name != INIT_OP and options.kind != "onnx" and (onnx is None or is_available()):
            engines[name] = tensorflow
    return engines, onnx


def _open_onnx(folder: Path, signatures: Mapping[str, Any], options: EngineOptions) -> OnnxEngine | None:
    card = read_card(folder)
    engine = OnnxEngine(folder, card, signatures, options.intra_op) if card else None
    return engine if engine is not None and engine.plans else None
