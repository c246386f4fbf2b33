"""Classify and Regress: tf.Examples in; classes and scores, or one number each, out.

The graph parses the serialized examples. This module has TensorFlow Serving's rules for signatures and outputs, in its
words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ladle.clients.wire.arrays import Array
from ladle.serving.errors import InvalidArgument
from ladle.serving.runtime.memory import STRING_BYTES, most_strings
from ladle.serving.servables.matching import type_name_of
from ladle.serving.servables.saved_model import Signature

INPUTS, CLASSES, SCORES, OUTPUTS = "inputs", "classes", "scores", "outputs"


def check_count(count: int, max_bytes: int) -> None:
    """InvalidArgument for more examples than a request may hold."""
    if count > most_strings(max_bytes):
        raise InvalidArgument(
            f"got {count} examples; expected at most {most_strings(max_bytes)} in a request, since each counts "
            f"{STRING_BYTES} bytes of --max_request_bytes; send several requests"
        )


def serialize_input(message: Any, max_bytes: int = 2**26) -> Array:
    """An Input message -> serialized tf.Examples, bytes [n], with the context merged into each.

    InvalidArgument when there is no example, and when the copies of the context exceed `max_bytes` in all.
    """
    kind = message.WhichOneof("kind")
    context = b""
    examples: Any = ()
    if kind == "example_list":
        examples = message.example_list.examples
    elif kind == "example_list_with_context":
        examples = message.example_list_with_context.examples
        context = message.example_list_with_context.context.SerializeToString()
    if not examples:
        raise InvalidArgument("Input is empty.")
    check_count(len(examples), max_bytes)
    if len(context) * len(examples) > max_bytes:
        raise InvalidArgument(
            f"The context, merged into {len(examples)} examples, makes more than {max_bytes} bytes; send fewer examples"
        )
    array = np.empty(len(examples), object)
    # Concatenating two serialized protobuf messages merges them (protobuf encoding, "last one wins").
    array[:] = [context + example.SerializeToString() for example in examples]
    return array


def find_signature(signatures: Mapping[str, Signature], name: str) -> Signature:
    """The signature that a classify or regress request names; InvalidArgument when there is none."""
    if name not in signatures:
        raise InvalidArgument(f"No signature was found with the name: {name}")
    return signatures[name]


def check_classify(signature: Signature) -> tuple[str, ...]:
    """The outputs to compute; InvalidArgument for a signature that cannot classify."""
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise InvalidArgument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise InvalidArgument(f"No classification inputs found in SignatureDef: {signature.name}")
    chosen = tuple(name for name in (CLASSES, SCORES) if name in signature.outputs)  # either may be missing
    if len(chosen) != len(signature.outputs):
        raise InvalidArgument(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {signature.name}"
        )
    return chosen


def check_regress(signature: Signature) -> tuple[str, ...]:
    """The output to compute; InvalidArgument for a signature that cannot regress."""
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise InvalidArgument("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise InvalidArgument(f"No regression inputs found in SignatureDef: {signature.name}")
    if OUTPUTS not in signature.outputs:
        raise InvalidArgument(f"No regression outputs found in SignatureDef: {signature.name}")
    return (OUTPUTS,)


def read_classes(answer: Mapping[str, Array], count: int) -> tuple[Array | None, Array | None]:
    """Labels, bytes [n, k], and scores, float32 [n, k]; None for one that the signature lacks.

    count  examples in the request; InvalidArgument when the outputs do not fit them
    """
    classes, scores = answer.get(CLASSES), answer.get(SCORES)
    for name, array, dtype, expected in ((CLASSES, classes, object, "STRING"), (SCORES, scores, np.float32, "FLOAT")):
        if array is None:
            continue
        if array.ndim != 2:
            raise InvalidArgument(
                f"Expected Tensor shape: [batch_size num_classes] but got [{','.join(map(str, array.shape))}]"
            )
        if array.dtype != dtype:
            raise InvalidArgument(f"Expected {name} Tensor of DT_{expected}. Got: DT_{type_name_of(array).upper()}")
        if len(array) != count:
            raise InvalidArgument(f"Expected {name} output batch size of {count}. Got: {len(array)}")
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise InvalidArgument(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    return classes, scores


def pair_classes(classes: Array | None, scores: Array | None) -> Iterator[tuple[list[bytes], list[float]]]:
    """Labels and scores of each example; a missing label is "", a missing score is 0."""
    for i in range(len(classes) if classes is not None else len(scores) if scores is not None else 0):
        labels = classes[i].tolist() if classes is not None else None
        numbers = scores[i].tolist() if scores is not None else None
        yield labels or [b""] * len(numbers or ()), numbers or [0.0] * len(labels or ())


def read_values(answer: Mapping[str, Array], count: int) -> Array:
    """The regressed number of each example, float32 [n]; InvalidArgument when the output does not fit `count`."""
    array = answer[OUTPUTS]
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] != 1):
        raise InvalidArgument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"[{','.join(map(str, array.shape))}]"
        )
    if array.dtype != np.float32:
        raise InvalidArgument(f"Expected output Tensor of DT_FLOAT.  Got: DT_{type_name_of(array).upper()}")
    if len(array) != count:
        raise InvalidArgument(f"Input batch size did not match output batch size: {count} vs. {len(array)}")
    return array.reshape(-1)
