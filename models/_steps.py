"""The steps of signatures in TensorFlow: image bytes, text, tf.Example, seeded noise, labels, PNG.

Each is described in the model card by `describe()`. `serving/servables/steps/steps.py` holds the NumPy twins, and a
test holds the two together. String tensors carry bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ladle.models._signatures import Specs, Tensors

FILTERED = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n\r'
"""What separates words: the filters of keras.datasets.imdb, and the carriage return."""
PAD, START, UNKNOWN, FIRST_WORD = 0, 1, 2, 3
"""Token ids of keras.datasets.imdb; word i of the vocabulary is FIRST_WORD + i."""


class _Step:
    """What most steps have in common: string [b] in, one tensor out, no resources."""

    op: str
    input: str
    output: str

    @property
    def inputs(self) -> Specs:
        return {self.input: tf.TensorSpec([None], tf.string, name=self.input)}

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.output,)

    @property
    def resources(self) -> tuple[Any, ...]:
        return ()

    def _described(self, **arguments: Any) -> dict[str, Any]:
        return {"op": self.op, "input": self.input, "output": self.output, **arguments}


class DecodeImage(_Step):
    """PNG or JPEG bytes, string [b] -> float32 [b, height, width, channels] in [0, 1].

    Grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601). Another size than height × width is resized, bilinear and
    antialiased. Without height and width images keep their size, which must then be the same for all of a request.
    """

    op = "decode_image"

    def __init__(
        self,
        channels: int,
        height: int | None = None,
        width: int | None = None,
        input: str = "image_bytes",
        output: str = "image",
    ) -> None:
        self.channels, self.height, self.width = channels, height, width
        self.input, self.output = input, output

    def __call__(self, tensors: Tensors) -> Tensors:
        spec = tf.TensorSpec([self.height, self.width, self.channels], tf.float32)
        return {self.output: tf.map_fn(self._decode, tensors[self.input], fn_output_signature=spec)}

    def _decode(self, encoded: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        image = tf.cast(tf.ensure_shape(pixels, [None, None, 3]), tf.float32) / 255.0
        if self.channels == 1:
            image = tf.reduce_sum(image * [0.299, 0.587, 0.114], axis=-1, keepdims=True)
        if self.height is not None:
            image = tf.image.resize(image, [self.height, self.width], method="bilinear", antialias=True)
        return image

    def describe(self) -> dict[str, Any]:
        return self._described(height=self.height, width=self.width, channels=self.channels)


class Tokenize(_Step):
    """UTF-8 text, string [b] -> int32 [b, max_length] token ids, numbered as keras.datasets.imdb does.

    ASCII letters are lower-cased, FILTERED and "<br />" separate words. The last `max_length` ids are kept; PAD fills
    the front.
    """

    op = "tokenize"

    def __init__(self, vocabulary: Sequence[str], max_length: int, input: str = "text", output: str = "tokens") -> None:
        self.max_length, self.input, self.output = max_length, input, output
        ids = FIRST_WORD + tf.range(len(vocabulary), dtype=tf.int64)
        words = tf.lookup.KeyValueTensorInitializer(tf.constant(list(vocabulary), tf.string), ids)
        self._table = tf.lookup.StaticHashTable(words, default_value=UNKNOWN)

    @property
    def resources(self) -> tuple[Any, ...]:
        return (self._table,)

    def __call__(self, tensors: Tensors) -> Tensors:
        text = tf.strings.lower(tf.strings.regex_replace(tensors[self.input], "<br />", " "))
        separators = "".join("\\" + c if c in "\\]^-[" else c for c in FILTERED)
        words = tf.strings.split(tf.strings.regex_replace(text, f"[{separators}]", " "), " ")
        words = tf.ragged.boolean_mask(words, tf.strings.length(words) > 0)
        ids = tf.ragged.map_flat_values(self._table.lookup, words)
        start = tf.fill([ids.nrows(), 1], tf.constant(START, tf.int64))
        ids = tf.concat([start, ids], axis=1)[:, -self.max_length :]
        padded = tf.reverse_sequence(ids.to_tensor(PAD, shape=[None, self.max_length]), ids.row_lengths(), seq_axis=1)
        return {self.output: tf.cast(tf.reverse(padded, axis=[1]), tf.int32)}

    def describe(self) -> dict[str, Any]:
        return self._described(vocabulary="vocabulary.txt", max_length=self.max_length)


class ParseExample(_Step):
    """Serialized tf.Example, string [b] -> [b, *shape] of one feature.

    Every example must hold it, unless there is a `default`: one value, or as many as `shape` has elements.
    """

    op = "parse_example"

    def __init__(
        self,
        feature: str,
        shape: Sequence[int],
        dtype: tf.DType = tf.float32,
        input: str = "inputs",
        output: str | None = None,
        default: Any = None,
    ) -> None:
        self.feature, self.shape, self.dtype = feature, list(shape), tf.as_dtype(dtype)
        self.input, self.output, self.default = input, output or feature, default

    def __call__(self, tensors: Tensors) -> Tensors:
        default = None if self.default is None else tf.constant(self.default, self.dtype, self.shape)
        wanted = {self.feature: tf.io.FixedLenFeature(self.shape, self.dtype, default)}
        return {self.output: tf.io.parse_example(tensors[self.input], wanted)[self.feature]}

    def describe(self) -> dict[str, Any]:
        default = {} if self.default is None else {"default": self.default}
        return self._described(feature=self.feature, dtype=self.dtype.name, shape=self.shape, **default)


class NormalNoise(_Step):
    """int32 [] `n` and int64 [] `seed` -> float32 [n, dim] ~ N(0, 1), the same for the same seed.

    Philox 4×32-10 (Salmon et al. 2011) as `tf.random.stateless_normal` uses it; more rows keep the first ones.
    `n` beyond 1..limit is refused with INVALID_ARGUMENT.
    """

    op = "normal_noise"

    def __init__(self, dim: int, output: str = "z", count: str = "n", seed: str = "seed", limit: int = 256) -> None:
        self.dim, self.output, self.count, self.seed, self.limit = dim, output, count, seed, limit

    @property
    def inputs(self) -> Specs:
        return {
            self.count: tf.TensorSpec([], tf.int32, name=self.count),
            self.seed: tf.TensorSpec([], tf.int64, name=self.seed),
        }

    def __call__(self, tensors: Tensors) -> Tensors:
        n, seed = tensors[self.count], tensors[self.seed]
        message = f"{self.count} must be 1 to {self.limit}"
        low = tf.debugging.assert_greater_equal(n, 1, message)
        high = tf.debugging.assert_less_equal(n, self.limit, message)
        # Both are None when eager: the assertions have then already spoken.
        with tf.control_dependencies([check for check in (low, high) if check is not None]):
            shape, key = tf.stack([n, self.dim]), tf.stack([seed, tf.zeros_like(seed)])
            return {self.output: tf.random.stateless_normal(shape, seed=key, alg="philox")}

    def describe(self) -> dict[str, Any]:
        arguments = {"count": self.count, "seed": self.seed, "output": self.output}
        return {"op": self.op, **arguments, "dim": self.dim, "limit": self.limit}


class LookupLabel(_Step):
    """Class ids, int64 [...] -> labels, string [...]."""

    op = "lookup_label"

    def __init__(self, labels: Sequence[str], input: str = "class_id", output: str = "label") -> None:
        self.labels, self.input, self.output = list(labels), input, output

    @property
    def inputs(self) -> Specs:
        return {self.input: tf.TensorSpec(None, tf.int64, name=self.input)}

    def __call__(self, tensors: Tensors) -> Tensors:
        return {self.output: tf.gather(tf.constant(self.labels, tf.string), tensors[self.input])}

    def describe(self) -> dict[str, Any]:
        return self._described(labels="labels.txt")


class TopClasses(_Step):
    """Probabilities, float32 [b, k] -> `classes` string [b, k] in label order and `scores` float32 [b, k]."""

    op = "top_classes"

    def __init__(self, labels: Sequence[str], input: str = "probabilities") -> None:
        self.labels, self.input = list(labels), input

    @property
    def inputs(self) -> Specs:
        return {self.input: tf.TensorSpec([None, None], tf.float32, name=self.input)}

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("classes", "scores")

    def __call__(self, tensors: Tensors) -> Tensors:
        scores = tensors[self.input]
        classes = tf.tile(tf.constant([self.labels], tf.string), [tf.shape(scores)[0], 1])
        return {"classes": classes, "scores": scores}

    def describe(self) -> dict[str, Any]:
        names = {"classes": "classes", "scores": "scores"}
        return {"op": self.op, "input": self.input, **names, "labels": "labels.txt"}


class EncodePng(_Step):
    """Class maps, int64 [b, h, w] -> string [b]: a grey 8-bit PNG each, whose pixel values are class ids."""

    op = "encode_png"

    def __init__(self, input: str = "class_map", output: str = "mask_png_bytes") -> None:
        self.input, self.output = input, output

    @property
    def inputs(self) -> Specs:
        return {self.input: tf.TensorSpec([None, None, None], tf.int64, name=self.input)}

    def __call__(self, tensors: Tensors) -> Tensors:
        pixels = tf.cast(tensors[self.input], tf.uint8)[..., tf.newaxis]
        encoded = tf.map_fn(tf.io.encode_png, pixels, fn_output_signature=tf.TensorSpec([], tf.string))
        return {self.output: encoded}

    def describe(self) -> dict[str, Any]:
        return self._described()
