"""MultiInference: several classify and regress signatures on the same examples, by TensorFlow Serving's rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument, Unimplemented
from ladle.serving.servables import examples
from ladle.serving.servables.saved_model import Signature
from ladle.serving.servables.servable import Servable

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


@dataclass(frozen=True)
class Inference:
    """A task: a model, a signature, and the method CLASSIFY or REGRESS."""

    model: str
    signature: str
    method: str


@dataclass(frozen=True)
class Result:
    """A task's answer.

    classes, scores  of CLASSIFY: bytes [n, k] and float32 [n, k]; one of the two may be None
    values           of REGRESS: float32 [n]
    """

    classes: Array | None = None
    scores: Array | None = None
    values: Array | None = None


def check(servable: Servable, tasks: Sequence[Inference]) -> list[tuple[Signature, tuple[str, ...]]]:
    """The signature and outputs of each task; InvalidArgument or Unimplemented, in TensorFlow Serving's words."""
    chosen: dict[str, tuple[Signature, tuple[str, ...]]] = {}
    for task in tasks:
        if not task.model:
            raise InvalidArgument("Found ModelSpec with an empty model name.")
        if task.model != tasks[0].model:
            raise InvalidArgument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        if task.signature in chosen:
            raise InvalidArgument(f"Duplicate evaluation of signature: {task.signature}")
        signature = servable.signatures.get(task.signature)
        if signature is None:
            raise InvalidArgument(f"Requested signature not found in model graph: {task.signature}")
        if task.method == CLASSIFY:
            outputs = examples.check_classify(signature)
        elif task.method == REGRESS:
            outputs = examples.check_regress(signature)
        else:
            raise Unimplemented(f"Unsupported signature method_name: {task.method}")
        chosen[task.signature] = signature, outputs
    return list(chosen.values())


def read(task: Inference, answer: Mapping[str, Array], count: int) -> Result:
    """A task's result, from its signature's outputs for `count` examples."""
    if task.method == CLASSIFY:
        return Result(*examples.read_classes(answer, count))
    return Result(values=examples.read_values(answer, count))
