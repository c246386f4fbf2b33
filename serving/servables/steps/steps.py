"""The steps of signatures in NumPy: image bytes, text, tf.Example, seeded noise, labels, PNG.

The model card lists a signature's steps before and after its ONNX graph. models/_steps.py has the same steps in
TensorFlow, and a test compares the two. String tensors are object arrays of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors as wire
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.philox import stateless_normal
from ladle.serving.errors import DataLoss, FailedPrecondition, InvalidArgument
from ladle.serving.servables.host.limits import check_number

Tensors = dict[str, Array]

_FILTERED = b'!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n\r'
_WORDS = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ" + _FILTERED, b"abcdefghijklmnopqrstuvwxyz" + b" " * len(_FILTERED)
)
_START, _UNKNOWN, _FIRST_WORD = 1, 2, 3  # token ids of Keras's IMDB data set; 0 is padding

MAX_IMAGE_PIXELS = 2**24
"""Width times height of the largest image that is decoded unless the flags say otherwise."""


@dataclass(frozen=True)
class Step:
    """A function of named tensors: `run` reads some of them and adds others.

    decoding  that of encoded images
    is_check  it may refuse a request, whichever outputs are asked for
    """

    op: str
    reads: tuple[str, ...]
    adds: tuple[str, ...]
    run: Callable[[Tensors], None]
    decoding: ImageDecoding | None = None
    is_check: bool = False


@dataclass(frozen=True)
class ImageDecoding:
    """What encoded images become: a few bytes can hold many pixels.

    channels  of the decoded images
    size      height and width to which they are resized; None: they keep their own
    sizes     height and width of each image of a batch, from its head; [] if one cannot be read or may not be decoded
    """

    channels: int
    size: tuple[int, int] | None
    sizes: Callable[[Array], list[tuple[int, int]]]


def build(description: Mapping[str, Any], assets: Path, max_image_pixels: int = MAX_IMAGE_PIXELS) -> Step:
    """The step that a model card describes; FailedPrecondition for an unknown or incomplete one.

    assets            folder with the word lists (labels.txt, vocabulary.txt) that the description names
    max_image_pixels  largest image to decode, width times height; 0: any
    """
    op = description.get("op", "")
    if op not in ("decode_image", "host") and op not in _BUILDERS:
        known = ", ".join(sorted([*_BUILDERS, "decode_image", "host"]))
        raise FailedPrecondition(f"card.json asks for the step {op!r}; expected one of {known}")
    try:
        if op == "decode_image":
            return _decode_image(description, max_image_pixels)
        if op == "host":
            return _host(description, assets.parent, max_image_pixels)
        return _BUILDERS[op](description, assets)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise FailedPrecondition(
            f"card.json describes the step {description['op']!r} incompletely ({type(error).__name__}); export it again"
        ) from error


def _decode_image(step: Mapping[str, Any], max_pixels: int) -> Step:
    from ladle.serving.servables.steps.images import decode_batch, read_sizes  # Pillow, which most models do not need

    source, target, channels = step["input"], step["output"], int(step["channels"])
    size = None if step["height"] is None else (int(step["height"]), int(step["width"]))

    def run(tensors: Tensors) -> None:
        tensors[target] = decode_batch(tensors[source], source, channels, size, max_pixels)

    decoding = ImageDecoding(channels, size, lambda encoded: read_sizes(encoded, max_pixels))
    return Step("decode_image", (source,), (target,), run, decoding)


def _host(step: Mapping[str, Any], folder: Path, max_pixels: int) -> Step:
    """TensorFlow's own operations on strings and tables, of a signature that `ladle convert` divided."""
    from ladle.serving.servables.host import program

    try:
        made = program.read(folder / step["file"], step["sha256"])
    except ValueError as error:
        raise DataLoss(f"{error}; convert the version again") from error
    return Step("host", tuple(made.reads), tuple(made.adds), made.compiled(max_pixels))


def _tokenize(step: Mapping[str, Any], assets: Path) -> Step:
    source, target, length = step["input"], step["output"], int(step["max_length"])
    ids = {word: _FIRST_WORD + i for i, word in enumerate(_lines(assets / step["vocabulary"]))}

    def run(tensors: Tensors) -> None:
        texts = tensors[source]
        _expect_vector(source, texts)
        tokens = np.zeros((len(texts), length), np.int32)
        for row, text in zip(tokens, texts, strict=True):
            # IMDB reviews hold HTML line breaks. `split()` would part words at \v and \f, too.
            words = list(filter(None, text.replace(b"<br />", b" ").translate(_WORDS).split(b" ")))
            found = [_START, *map(ids.get, words[-length:], repeat(_UNKNOWN))][-length:]
            row[length - len(found) :] = found
        tensors[target] = tokens

    return Step("tokenize", (source,), (target,), run)


def _parse_example(step: Mapping[str, Any], assets: Path) -> Step:
    source, target, feature, shape = step["input"], step["output"], step["feature"], tuple(step["shape"])
    kind, word = {
        "float32": ("float_list", "float"),
        "int64": ("int64_list", "int64"),
        "string": ("bytes_list", "string"),
    }[step["dtype"]]
    numpy = np.dtype(object if word == "string" else step["dtype"])
    size = int(np.prod(shape))
    default = None if step.get("default") is None else _default(step["default"], numpy, size)

    def run(tensors: Tensors) -> None:
        examples = tensors[source]
        _expect_vector(source, examples)
        parsed = np.empty((len(examples), size), numpy)
        for row, example in zip(parsed, examples, strict=True):
            row[:] = values(example)
        tensors[target] = parsed.reshape(len(examples), *shape)

    def values(serialized: bytes) -> Any:
        try:
            check_number(serialized)
            features = pb.Example.FromString(serialized).features.feature
        except DecodeError:
            raise InvalidArgument("Could not parse example input: not a serialized tf.Example") from None
        value = features[feature]  # a protobuf map adds an empty value for a missing key
        if value.WhichOneof("kind") is None:
            if default is not None:
                return default
            raise InvalidArgument(
                f"Name: <unknown>, Feature: {feature} (data type: {word}) is required but could not be found."
            )
        if value.WhichOneof("kind") != kind:
            raise InvalidArgument(f"Name: <unknown>, Key: {feature}.  Data types don't match. Expected type: {word}")
        found = getattr(value, kind).value
        if len(found) != size:
            raise InvalidArgument(
                f"Name: <unknown>, Key: {feature}, Index: 0.  Number of {word} values != expected.  "
                f"values size: {len(found)} but output shape: [{','.join(map(str, shape))}]"
            )
        return found

    return Step("parse_example", (source,), (target,), run)


def _default(value: Any, dtype: np.dtype[Any], size: int) -> Array:
    flat = [v.encode() if isinstance(v, str) else v for v in np.ravel(np.array(value, object)).tolist()]
    filled = np.empty(size, dtype)
    filled[:] = flat if len(flat) > 1 else flat[0]
    return filled


def _normal_noise(step: Mapping[str, Any], assets: Path) -> Step:
    count, seed, target = step["count"], step["seed"], step["output"]
    dim, limit = int(step["dim"]), int(step["limit"])

    def run(tensors: Tensors) -> None:
        for name in (count, seed):
            if tensors[name].ndim:
                raise InvalidArgument(f'input "{name}" has shape {list(tensors[name].shape)}; expected a scalar')
        rows = int(tensors[count])
        if not 1 <= rows <= limit:
            raise InvalidArgument(f'input "{count}" is {rows}; expected 1 to {limit}')
        tensors[target] = stateless_normal((rows, dim), int(tensors[seed]))

    return Step("normal_noise", (count, seed), (target,), run)


def _stack_columns(step: Mapping[str, Any], assets: Path) -> Step:
    target, names = step["output"], tuple(step["columns"])
    numbers = {
        column: {category.encode(): number for number, category in enumerate(step["categories"][column])}
        for column in names
    }

    def run(tensors: Tensors) -> None:
        for name in names:
            _expect_vector(name, tensors[name])
        count = len(tensors[names[0]])
        rows = np.empty((count, len(names)), np.float32)
        for i, (name, known) in enumerate(numbers.items()):
            column = tensors[name]
            if len(column) != count:
                raise InvalidArgument(
                    f'input "{name}" has {len(column)} rows and "{names[0]}" has {count}; expected the same number'
                )
            rows[:, i] = [known.get(value, -1) for value in column] if known else column
        tensors[target] = rows

    return Step("stack_columns", names, (target,), run)


def _lookup_label(step: Mapping[str, Any], assets: Path) -> Step:
    source, target, words = step["input"], step["output"], _lines(assets / step["labels"])
    labels = _array(words)

    def run(tensors: Tensors) -> None:
        ids = tensors[source]
        if ids.size == 1 and 0 <= (only := ids.item()) < len(words):  # most requests: one row, without an index array
            tensors[target] = found = np.empty(ids.shape, object)
            found.fill(words[only])
            return
        try:
            if ids.min(initial=0) < 0:
                raise IndexError
            tensors[target] = labels[ids]
        except IndexError:
            at = tuple(int(axis) for axis in np.argwhere((ids < 0) | (ids >= len(labels)))[0])
            raise InvalidArgument(f"indices{list(at)} = {ids[at]} is not in [0, {len(labels)})") from None

    return Step("lookup_label", (source,), (target,), run)


def _top_classes(step: Mapping[str, Any], assets: Path) -> Step:
    source, classes, scores = step["input"], step["classes"], step["scores"]
    labels = _array(_lines(assets / step["labels"]))

    def run(tensors: Tensors) -> None:
        tensors[scores] = tensors[source]
        tensors[classes] = np.tile(labels, (len(tensors[source]), 1))

    return Step("top_classes", (source,), (classes, scores), run)


def _nearest_words(step: Mapping[str, Any], assets: Path) -> Step:
    source, neighbours, similarity, count = step["input"], step["neighbours"], step["similarity"], int(step["count"])
    words = _array(_lines(assets / step["vocabulary"]))

    def run(tensors: Tensors) -> None:
        found = tensors[source]
        ids = np.argsort(-found, axis=-1, kind="stable")[:, :count]  # as tf.math.top_k: of equals the lower id first
        tensors[neighbours] = words[ids]
        tensors[similarity] = np.take_along_axis(found, ids, axis=-1)

    return Step("nearest_words", (source,), (neighbours, similarity), run)


def _encode_png(step: Mapping[str, Any], assets: Path) -> Step:
    from ladle.serving.servables.steps.images import encode_png_batch

    source, target = step["input"], step["output"]

    def run(tensors: Tensors) -> None:
        tensors[target] = encode_png_batch(tensors[source])

    return Step("encode_png", (source,), (target,), run)


def _rename(step: Mapping[str, Any], assets: Path) -> Step:
    """An output that has the name of an input: a graph cannot have both."""
    source, target = step["input"], step["output"]

    def run(tensors: Tensors) -> None:
        tensors[target] = tensors[source]

    return Step("rename", (source,), (target,), run)


def _widen(step: Mapping[str, Any], assets: Path) -> Step:
    """bfloat16 becomes float32: ONNX Runtime takes no other floats from NumPy that are as wide."""
    name = step["input"]

    def run(tensors: Tensors) -> None:
        tensors[name] = wire.widen(tensors[name])

    return Step("widen", (name,), (name,), run)


def _narrow(step: Mapping[str, Any], assets: Path) -> Step:
    """float32 becomes bfloat16."""
    name = step["input"]

    def run(tensors: Tensors) -> None:
        tensors[name] = wire.narrow(tensors[name])

    return Step("narrow", (name,), (name,), run)


def _require(step: Mapping[str, Any], assets: Path) -> Step:
    """A check of the model, which the graph has as a boolean output: it refuses the request where that is false."""
    source, message = step["input"], str(step["message"])

    def run(tensors: Tensors) -> None:
        if not tensors[source].all():
            raise InvalidArgument(message)

    return Step("require", (source,), (), run, is_check=True)


_BUILDERS: dict[str, Callable[[Mapping[str, Any], Path], Step]] = {
    "tokenize": _tokenize,
    "parse_example": _parse_example,
    "normal_noise": _normal_noise,
    "stack_columns": _stack_columns,
    "lookup_label": _lookup_label,
    "top_classes": _top_classes,
    "nearest_words": _nearest_words,
    "encode_png": _encode_png,
    "rename": _rename,
    "widen": _widen,
    "narrow": _narrow,
    "require": _require,
}


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().removesuffix(b"\n").split(b"\n")


def _array(words: list[bytes]) -> Array:
    array = np.empty(len(words), object)
    array[:] = words
    return array


def _expect_vector(name: str, array: Array) -> None:
    if array.ndim != 1:
        raise InvalidArgument(f'input "{name}" has shape {list(array.shape)}; expected [batch]')
