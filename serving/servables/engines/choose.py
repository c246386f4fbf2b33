"""Chooses the engine of each signature of a version: ONNX Runtime, TensorFlow or TensorFlow Lite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ladle.serving.errors import FailedPrecondition, InvalidArgument
from ladle.serving.runtime.cores import cpu_count, process_count
from ladle.serving.runtime.memory import total_bytes
from ladle.serving.servables.engines import tflite as tflite_engine
from ladle.serving.servables.engines.gpu import device
from ladle.serving.servables.engines.gpu.device import Gpu
from ladle.serving.servables.engines.isolated.engine import IsolatedEngine
from ladle.serving.servables.engines.onnx import OnnxEngine
from ladle.serving.servables.engines.savedmodel import SavedModelEngine, is_available
from ladle.serving.servables.saved_model import INIT_OP, parse_signature, read_card, read_signature_defs
from ladle.serving.servables.servable import Engine
from ladle.serving.servables.steps.steps import MAX_IMAGE_PIXELS

LEAST_RUN_BYTES = 2**26
KINDS = ("auto", "onnx", "tensorflow")


@dataclass(frozen=True)
class EngineOptions:
    """The flags that concern engines.

    kind                 onnx, tensorflow, or auto: the verified graph of a signature if it has one, else TensorFlow
    tags                 of the MetaGraph to serve
    intra_op, inter_op   threads within and between operations; 0: measured (ONNX Runtime), all cores (TensorFlow)
    tflite_interpreters  interpreters of a version's model.tflite; 0: ignore that file
    max_image_pixels     largest image that a step decodes, width times height; 0: any
    max_run_bytes        most memory that a run may need; 0: any
    tensorflow_process   TensorFlow runs in a process of its own
    gpu                  the GPU that ONNX Runtime uses; None: the CPU
    """

    kind: str = "auto"
    tags: tuple[str, ...] = ("serve",)
    intra_op: int = 0
    inter_op: int = 0
    tflite_interpreters: int = 0
    max_image_pixels: int = MAX_IMAGE_PIXELS
    max_run_bytes: int = 0
    tensorflow_process: bool = False
    gpu: Gpu | None = None

    @property
    def tensorflow_run_bytes(self) -> int:
        """Memory that all runs in TensorFlow's process may need together: one on each core."""
        return self.max_run_bytes * cpu_count()


def engine_options(options: SimpleNamespace) -> EngineOptions:
    """The options that the flags describe.

    InvalidArgument for an unknown engine or device and for wrong flags of a GPU, FailedPrecondition for a GPU that
    cannot be used.
    """
    if options.engine not in KINDS:
        raise InvalidArgument(f"unknown --engine={options.engine}; expected one of {', '.join(KINDS)}")
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
        max_image_pixels=options.max_image_pixels,
        max_run_bytes=options.max_run_bytes if options.max_run_bytes >= 0 else share_of_memory(),
        tensorflow_process=options.tensorflow_process,
        gpu=device.from_flags(options),
    )


def share_of_memory() -> int:
    """Memory that a run may need by default: a quarter of the process's share."""
    return max(LEAST_RUN_BYTES, total_bytes() // (4 * process_count()))


def open_version(
    folder: Path, options: EngineOptions
) -> tuple[Mapping[str, Any], dict[str, Engine], OnnxEngine | None]:
    """The SignatureDef messages by name, the engine of each signature, and the ONNX Runtime engine if one is used.

    NotFound when saved_model.pb is missing, FailedPrecondition when no engine can run the version, DataLoss for
    damaged files.
    """
    if options.tflite_interpreters and (folder / tflite_engine.FILE).exists():
        tflite: IsolatedEngine | tflite_engine.TfliteEngine
        if options.tensorflow_process:
            tflite = IsolatedEngine(
                folder, {}, run_bytes=options.tensorflow_run_bytes, interpreters=options.tflite_interpreters
            )
            tflite.load()
        else:
            tflite = tflite_engine.TfliteEngine(folder, options.tflite_interpreters)
        return tflite.definitions, dict.fromkeys(tflite.definitions, tflite), None
    definitions = read_signature_defs(folder, options.tags)
    return definitions, *open_engines(folder, definitions, options)


def open_engines(
    folder: Path, definitions: Mapping[str, Any], options: EngineOptions
) -> tuple[dict[str, Engine], OnnxEngine | None]:
    """The engine of each signature of a SavedModel, and the ONNX Runtime engine if one is used; errors as above."""
    signatures = {name: parse_signature(name, definition) for name, definition in definitions.items()}
    onnx = None if options.kind == "tensorflow" else _open_onnx(folder, signatures, options)
    tensorflow: IsolatedEngine | SavedModelEngine
    threads = options.intra_op or cpu_count(), options.inter_op or cpu_count()  # each worker has its share of the cores
    if options.tensorflow_process:
        tensorflow = IsolatedEngine(folder, definitions, options.tags, threads, options.tensorflow_run_bytes)
    else:
        tensorflow = SavedModelEngine(folder, options.tags, signatures, *threads)
    if onnx is None:
        if options.kind == "onnx":
            raise FailedPrecondition(
                "the version has no verified ONNX graph, and the server runs with --engine=onnx; add a graph with "
                "`ladle convert`, or start the server with --engine=auto"
            )
        tensorflow.load()  # now rather than at the first request: nothing else can answer
    engines: dict[str, Engine] = {}
    for name in definitions:
        if onnx is not None and name in onnx.plans:
            engines[name] = onnx
        elif name != INIT_OP and options.kind != "onnx" and (onnx is None or is_available()):
            engines[name] = tensorflow
    return engines, onnx


def _open_onnx(folder: Path, signatures: Mapping[str, Any], options: EngineOptions) -> OnnxEngine | None:
    card = read_card(folder)
    if card is None:
        return None
    limits = options.max_image_pixels, options.max_run_bytes
    engine = OnnxEngine(folder, card, signatures, options.intra_op, *limits, gpu=options.gpu)
    return engine if engine.plans else None
