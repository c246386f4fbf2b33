"""Runs a version's model.tflite on TensorFlow's interpreter, for --prefer_tflite_model."""

from __future__ import annotations

import importlib.util
import logging
import queue
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.serving.errors import DataLoss, FailedPrecondition, InvalidArgument
from ladle.serving.runtime.log import log_caller_error
from ladle.serving.servables.latency import Latency

log = logging.getLogger(__name__)

FILE = "model.tflite"
_METADATA = b"signature_defs_metadata"


class TfliteEngine:
    """All signatures of one model.tflite.

    definitions  SignatureDef messages by name, from the file's metadata. A file without them gets one,
                 serving_default, whose aliases are the names of the tensors
    """

    name = "TensorFlow Lite"

    def __init__(self, folder: Path, interpreters: int = 1) -> None:
        """Imports TensorFlow, which takes seconds.

        interpreters  requests that run at once: an interpreter runs one at a time

        FailedPrecondition when TensorFlow is not installed, DataLoss when the file cannot be read.
        """
        if importlib.util.find_spec("tensorflow") is None:
            raise FailedPrecondition(
                "the server runs with --prefer_tflite_model, but TensorFlow, whose interpreter runs model.tflite, is "
                "not installed where the server runs; install TensorFlow, or start the server without the flag"
            )
        try:
            content = (folder / FILE).read_bytes()
            made = [_interpreter(content) for _ in range(max(1, interpreters))]
            self.definitions = _read_definitions(content) or {"serving_default": _make_definition(made[0])}
        except (OSError, ValueError, RuntimeError, TypeError, DecodeError) as error:
            log.error("%s: %s", folder, error)
            raise DataLoss(f"the version's {FILE} cannot be read; convert the model again") from None
        self._inputs = {_bare(detail["name"]): detail["index"] for detail in made[0].get_input_details()}
        self._outputs = {_bare(detail["name"]): detail["index"] for detail in made[0].get_output_details()}
        for name, definition in self.definitions.items():
            for infos, tensor_indices in ((definition.inputs, self._inputs), (definition.outputs, self._outputs)):
                missing = [info.name for info in infos.values() if _bare(info.name) not in tensor_indices]
                if missing:
                    raise DataLoss(
                        f"signature {name} of {FILE} names tensors that the file lacks: {', '.join(missing)}"
                    )
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for interpreter in made:
            self._idle.put(interpreter)

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        definition = self.definitions[signature]
        interpreter = self._idle.get()
        try:
            for alias, array in inputs.items():  # the file has fixed shapes: give it those of this request
                interpreter.resize_tensor_input(self._inputs[_bare(definition.inputs[alias].name)], array.shape)
            interpreter.allocate_tensors()
            for alias, array in inputs.items():
                interpreter.set_tensor(self._inputs[_bare(definition.inputs[alias].name)], array)
            interpreter.invoke()
            return {
                alias: _strings(interpreter.get_tensor(self._outputs[_bare(definition.outputs[alias].name)]))
                for alias in outputs
            }
        except (ValueError, RuntimeError) as error:
            log_caller_error(log, "the graph refused its inputs: %s", error)
            given = ", ".join(f'"{name}" {array.dtype} {list(array.shape)}' for name, array in inputs.items())
            raise InvalidArgument(f"the graph cannot run inputs of these shapes: {given}") from None
        finally:
            self._idle.put(interpreter)

    def latency(self, signature: str) -> Latency:
        return Latency(is_steady=False)  # a file may hold loops

    def close(self) -> None:
        """Nothing outlives the engine."""

    def clock(self, signature: str) -> Callable[[], float]:
        return time.perf_counter


def _interpreter(content: bytes) -> Any:
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tf.lite.Interpreter(model_content=content, num_threads=1)


def _read_definitions(content: bytes) -> dict[str, Any]:
    """The signatures in the file's metadata, a flexbuffer map of name -> serialized SignatureDef; {} if missing."""
    from flatbuffers import flexbuffers  # type: ignore[import-untyped]
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        if entry.Name() == _METADATA:
            found = flexbuffers.GetRoot(bytearray(model.Buffers(entry.Buffer()).DataAsNumpy())).AsMap
            values = zip(found.Keys, found.Values, strict=True)
            return {key.AsKey: pb.SignatureDef.FromString(bytes(value.AsStringBytes)) for key, value in values}
    return {}


def _make_definition(interpreter: Any) -> Any:
    definition = pb.SignatureDef(method_name="tensorflow/serving/predict")
    for details, infos in (
        (interpreter.get_input_details(), definition.inputs),
        (interpreter.get_output_details(), definition.outputs),
    ):
        for detail in details:
            info = infos[_bare(detail["name"])]
            info.name = detail["name"]
            info.dtype = tensors.dtype_of(np.zeros(0, detail["dtype"])).number
            for size in detail["shape_signature"]:
                info.tensor_shape.dim.add(size=int(size))
    return definition


def _bare(name: str) -> str:
    return name.removesuffix(":0")


def _strings(array: Any) -> Array:
    return array.astype(object) if array.dtype.kind == "S" else np.array(array)
