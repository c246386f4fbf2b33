"""What people ask of a model, as steps over either protocol: the one place of each task's logic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from ladle.clients.errors import InvalidArgument
from ladle.clients.library import images as pictures
from ladle.clients.library.call import Call
from ladle.clients.library.images import Image
from ladle.clients.library.results import Classification, Descent, Segmentation, Sentiment
from ladle.clients.transport.exchange import Steps
from ladle.clients.wire.arrays import Array

T = TypeVar("T")


def classify_one(call: Call, name: str, image: Image) -> Steps[Classification]:
    return _one((yield from classify(call, _batch_of_one(image))), name)


def classify(call: Call, images: Sequence[Image] | Array) -> Steps[list[Classification]]:
    answer, _ = yield from call.image(_stack(images), wanted=("probabilities", "class_id", "label"))
    probabilities = call.pick(answer, "probabilities")
    labels = yield from call.labels()
    if labels is None or len(labels) != probabilities.shape[-1]:
        labels = tuple(str(i) for i in range(probabilities.shape[-1]))
    class_ids = answer.get("class_id", probabilities.argmax(-1))
    results = []
    for i, row in enumerate(probabilities):
        class_id = int(class_ids[i])
        text = answer["label"][i].decode() if "label" in answer else labels[class_id]
        results.append(Classification(text, float(row[class_id]), class_id, labels, row))
    return results


def segment(call: Call, name: str, image: Image) -> Steps[Segmentation]:
    answer, _ = yield from call.image(_batch_of_one(image), wanted=("class_map",))
    return Segmentation(_one(list(call.pick(answer, "class_map")), name))


def reconstruct(call: Call, image: Image) -> Steps[Array]:
    answer, single = yield from call.image(image, bytes_signature="reconstruct_bytes")
    return _unbatch(call.pick(answer, "reconstruction", "image"), single)


def encode(call: Call, image: Image) -> Steps[Array]:
    given: Any = image
    if pictures.is_encoded(given):
        given = yield from call.pixels(given, "encode")
    answer, single = yield from call.image(np.asarray(given), signature="encode")
    return _unbatch(call.pick(answer, "code"), single)


def decode(call: Call, code: Any) -> Steps[Array]:
    answer, single = yield from call.value(code, signature="decode")
    return _unbatch(call.pick(answer, "images", "image"), single)


def interpolate(call: Call, first: Image, second: Image, steps: int) -> Steps[Array]:
    if steps < 2:
        raise InvalidArgument(f"steps is {steps}; an interpolation has 2 or more")
    start = yield from encode(call, first)
    end = yield from encode(call, second)
    share = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
    return (yield from decode(call, (1 - share) * start.reshape(1, -1) + share * end.reshape(1, -1)))


def generate(call: Call, n: int, seed: int) -> Steps[Array]:
    try:
        inputs: dict[str, Array] = {"n": np.array(n, np.int32), "seed": np.array(seed, np.int64)}
    except OverflowError:
        raise InvalidArgument(f"n is {n} and seed {seed}; wanted at most 32 bits and 64 bits") from None
    return call.pick((yield from call.run("generate", inputs)), "images")


def sentiment(call: Call, texts: Sequence[str]) -> Steps[list[Sentiment]]:
    try:
        encoded = [text.encode() for text in texts]
    except UnicodeEncodeError:
        raise InvalidArgument("a text holds half a surrogate pair: it is not Unicode") from None
    answer = yield from call.run("text", {"text": np.array(encoded, object)})
    results = []
    for positive, label in zip(call.pick(answer, "probability"), call.pick(answer, "label"), strict=True):
        likely = float(max(positive, 1 - positive))
        results.append(Sentiment(label.decode(), likely, float(positive)))
    return results


def regress(call: Call, x: Any) -> Steps[Array]:
    answer, single = yield from call.value(x)
    return _unbatch(call.pick(answer, "y", "outputs"), single)


def minimise(call: Call, start: Any) -> Steps[Descent]:
    answer, single = yield from call.value(start)
    return Descent(*(_unbatch(call.exactly(answer, name), single) for name in ("minimum", "value", "path")))


def _batch_of_one(image: Any) -> Any:
    return [image] if pictures.is_encoded(image) else image


def _stack(images: Any) -> Any:
    """A list of paths or bytes as it is; arrays as one."""
    if isinstance(images, np.ndarray):
        return images
    encoded = [pictures.is_encoded(image) for image in images]
    if any(encoded):
        if not all(encoded):
            raise InvalidArgument("paths or bytes came together with arrays; wanted all of one kind")
        return list(images)
    shapes = sorted({np.shape(image) for image in images})
    if len(shapes) != 1:
        raise InvalidArgument(f"the images have shapes {shapes}; wanted at least one, all of the same shape")
    return np.stack([np.asarray(image) for image in images])


def _one(results: list[T], name: str) -> T:
    if len(results) != 1:
        raise InvalidArgument(f"{name}: {len(results)} images came; wanted one")
    return results[0]


def _unbatch(array: Array, single: bool) -> Array:
    return array[0] if single else array
