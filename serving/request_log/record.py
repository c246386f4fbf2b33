"""One answered request as a `PredictionLog`: the message of warm-up files, whatever protocol the request came by."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.serving.dataplane.multi_inference import CLASSIFY
from ladle.serving.repository.folders import RequestLogging
from ladle.serving.servables.examples import pair_classes
from ladle.serving.telemetry.observation import Observation

ALL = "*"


def encode(observation: Observation, logging: RequestLogging, redacted: Collection[str] = ()) -> bytes:
    """The serialized PredictionLog.

    redacted  names of inputs, outputs and features of tf.Examples, or ALL: their values become zeros and empty strings
              of the same shape, so that the file still warms a server up
    """
    log = pb.PredictionLog()
    log.log_metadata.model_spec.name = observation.model
    log.log_metadata.model_spec.version.value = observation.version
    log.log_metadata.model_spec.signature_name = observation.signature
    log.log_metadata.sampling_config.sampling_rate = logging.sampling_rate
    log.log_metadata.timestamp_secs = int(time.time())
    _WRITERS[observation.kind](log, observation, redacted)
    serialized: bytes = log.SerializeToString()
    return serialized


def size_of(observation: Observation) -> int:
    """About how many bytes of memory the inputs and outputs hold while they wait to be written."""
    return sum(map(_bytes_of, _arrays(observation.inputs))) + sum(map(_bytes_of, _arrays(observation.outputs)))


def _arrays(value: Any) -> Iterable[Array]:
    if isinstance(value, np.ndarray):
        return (value,)
    values = value.values() if hasattr(value, "values") else value
    return [each for each in values if isinstance(each, np.ndarray)]


def _bytes_of(array: Array) -> int:
    return array.nbytes + (sum(map(len, array.ravel().tolist())) if array.dtype == object else 0)


def _write_predict(log: Any, seen: Observation, redacted: Collection[str]) -> None:
    request, response = log.predict_log.request, log.predict_log.response
    request.model_spec.name, request.model_spec.signature_name = seen.model, seen.signature
    request.output_filter.extend(seen.output_filter)
    response.model_spec.CopyFrom(log.log_metadata.model_spec)
    for target, arrays in ((request.inputs, seen.inputs), (response.outputs, seen.outputs)):
        for alias, array in arrays.items():
            shown = _zeros(array) if _is_redacted(alias, redacted) else array
            tensors.fill(target[alias], shown, content=shown.dtype != object)


def _write_classify(log: Any, seen: Observation, redacted: Collection[str]) -> None:
    _write_input(log.classify_log.request, log, seen.inputs, redacted)
    log.classify_log.response.model_spec.CopyFrom(log.log_metadata.model_spec)
    classes, scores = seen.outputs
    _fill_classes(log.classify_log.response.result, classes, scores, redacted)


def _write_regress(log: Any, seen: Observation, redacted: Collection[str]) -> None:
    _write_input(log.regress_log.request, log, seen.inputs, redacted)
    log.regress_log.response.model_spec.CopyFrom(log.log_metadata.model_spec)
    _fill_values(log.regress_log.response.result, seen.outputs, redacted)


def _write_multi_inference(log: Any, seen: Observation, redacted: Collection[str]) -> None:
    request, response = log.multi_inference_log.request, log.multi_inference_log.response
    _fill_examples(request.input, seen.inputs, redacted)
    for task, result in zip(seen.tasks, seen.outputs, strict=True):
        spec = request.tasks.add(method_name=task.method).model_spec
        spec.name, spec.signature_name = task.model, task.signature
        answer = response.results.add()
        answer.model_spec.CopyFrom(spec)
        answer.model_spec.version.value = seen.version
        if task.method == CLASSIFY:
            _fill_classes(answer.classification_result, result.classes, result.scores, redacted)
        else:
            _fill_values(answer.regression_result, result.values, redacted)


_WRITERS = {
    "predict": _write_predict,
    "classify": _write_classify,
    "regress": _write_regress,
    "multi_inference": _write_multi_inference,
}


def _write_input(request: Any, log: Any, serialized: Array, redacted: Collection[str]) -> None:
    spec = log.log_metadata.model_spec
    request.model_spec.name, request.model_spec.signature_name = spec.name, spec.signature_name
    _fill_examples(request.input, serialized, redacted)


def _fill_examples(target: Any, serialized: Array, redacted: Collection[str]) -> None:
    for text in serialized.ravel().tolist():
        example = target.example_list.examples.add()
        example.MergeFromString(text)
        for name, feature in example.features.feature.items():
            kind = feature.WhichOneof("kind")
            if kind is not None and _is_redacted(name, redacted):
                values = getattr(feature, kind).value
                values[:] = [b"" if kind == "bytes_list" else 0] * len(values)


def _fill_classes(result: Any, classes: Array | None, scores: Array | None, redacted: Collection[str]) -> None:
    for labels, numbers in pair_classes(classes, scores):
        classification = result.classifications.add()
        for label, number in zip(labels, numbers, strict=True):
            shown = "" if _is_redacted("classes", redacted) else label.decode(errors="replace")
            classification.classes.add(label=shown, score=0 if _is_redacted("scores", redacted) else number)


def _fill_values(result: Any, values: Array, redacted: Collection[str]) -> None:
    for value in values.tolist():
        result.regressions.add(value=0 if _is_redacted("outputs", redacted) else value)


def _is_redacted(name: str, redacted: Collection[str]) -> bool:
    return name in redacted or ALL in redacted


def _zeros(array: Array) -> Array:
    return np.full(array.shape, b"", object) if array.dtype == object else np.zeros(array.shape, array.dtype)
