"""TensorFlow steps of signatures: decode images, split text, parse tf.Example, draw noise, look up labels, encode PNG.

`described` is the entry of a step in the model card. `serving/servables/steps/steps.py` has the same steps in NumPy,
and a test compares the two. String tensors carry bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import tensorflow as tf

from ladle.models._signatures import Specs, Tensors

FILTERED = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n\r'
"""Characters that separate words: the filters of keras.datasets.imdb, and the carriage return."""
PAD, START, UNKNOWN, FIRST_WORD = 0, 1, 2, 3
"""Token ids of keras.datasets.imdb; word i of the vocabulary is FIRST_WORD + i."""


class _Step:
    """Base of the steps: by default string [b] in, one tensor out, no resources."""

    op: str
    input: str
    output: str
    resources: tuple[Any, ...] = ()

    @property
    def inputs(self) -> Specs:
        return {self.input: tf.TensorSpec([None], tf.string, name=self.input)}

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.output,)

    def _entry(self, **arguments: Any) -> dict[str, Any]:
        return {"op": self.op, "input": self.input, "output": self.output, **arguments}


class DecodeImage(_Step):
    """PNG or JPEG bytes, string [b] -> float32 [b, height, width, channels] in [0, 1].

    Grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601). Images of another size are resized to height × width, bilinear
    and antialiased. Without height and width, images keep their size; all images of a request must then have the same.
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

    @cached_property
    def described(self) -> dict[str, Any]:
        return self._entry(height=self.height, width=self.width, channels=self.channels)


class Tokenize(_Step):
    """UTF-8 text, string [b] -> int32 [b, max_length] token ids, numbered as keras.datasets.imdb does.

    ASCII letters become lower case; the characters in FILTERED and "<br />" separate words. The last `max_length` ids
    are kept; PAD fills the front.
    """

    op = "tokenize"

    def __init__(self, vocabulary: Sequence[str], max_length: int, input: str = "text", output: str = "tokens") -> None:
        self.max_length, self.input, self.output = max_length, input, output
        ids = FIRST_WORD + tf.range(len(vocabulary), dtype=tf.int64)
        words = tf.lookup.KeyValueTensorInitializer(tf.constant(list(vocabulary), tf.string), ids)
        self._table = tf.lookup.StaticHashTable(words, default_value=UNKNOWN)
        self.resources = (self._table,)

    def __call__(self, tensors: Tensors) -> Tensors:
        # tf.strings.lower without an encoding changes ASCII letters only, as bytes.lower() does in the NumPy twin.
        text = tf.strings.lower(tf.strings.regex_replace(tensors[self.input], "<br />", " "))
        separators = "".join("\\" + c if c in "\\]^-[" else c for c in FILTERED)
        words = tf.strings.split(tf.strings.regex_replace(text, f"[{separators}]", " "), " ")
        words = tf.ragged.boolean_mask(words, tf.strings.length(words) > 0)
        ids = tf.ragged.map_flat_values(self._table.lookup, words)
        start = tf.fill([ids.nrows(), 1], tf.constant(START, tf.int64))
        ids = tf.concat([start, ids], axis=1)[:, -self.max_length :]
        # to_tensor() pads at the end. Reversing each row, then the whole matrix, moves the padding to the front.
        padded = tf.reverse_sequence(ids.to_tensor(PAD, shape=[None, self.max_length]), ids.row_lengths(), seq_axis=1)
        return {self.output: tf.cast(tf.reverse(padded, axis=[1]), tf.int32)}

    @cached_property
    def described(self) -> dict[str, Any]:
        return self._entry(vocabulary="vocabulary.txt", max_length=self.max_length)


class ParseExample(_Step):
    """Serialized tf.Example, string [b] -> [b, *shape] of one feature.

    Every example must contain the feature unless there is a `default`: one value, or one per element of `shape`.
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
        features = {self.feature: tf.io.FixedLenFeature(self.shape, self.dtype, default)}
        return {self.output: tf.io.parse_example(tensors[self.input], features)[self.feature]}

    @cached_property
    def described(self) -> dict[str, Any]:
        default = {} if self.default is None else {"default": self.default}
        return self._entry(feature=self.feature, dtype=self.dtype.name, shape=self.shape, **default)


class NormalNoise(_Step):
    """int32 [] `n` and int64 [] `seed` -> float32 [n, dim] ~ N(0, 1), the same for the same seed.

    Philox 4×32-10 (Salmon et al. 2011) as `tf.random.stateless_normal` uses it. A larger n adds rows and keeps the
    first ones. The step fails with INVALID_ARGUMENT unless 1 ≤ n ≤ limit.
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
        # In eager mode both are None: the assertions have already run.
        with tf.control_dependencies([check for check in (low, high) if check is not None]):
            shape, key = tf.stack([n, self.dim]), tf.stack([seed, tf.zeros_like(seed)])
            return {self.output: tf.random.stateless_normal(shape, seed=key, alg="philox")}

    @cached_property
    def described(self) -> dict[str, Any]:
        arguments = {"count": self.count, "seed": self.seed, "output": self.output}
        return {"op": self.op, **arguments, "dim": self.dim, "limit": self.limit}


class StackColumns(_Step):
    """Columns by name -> one row of numbers each, float32 [b, columns], in the order of `categories`.

    A column of numbers is float32 [b]. A column with categories is string [b]; it becomes the number of the category,
    -1 if it is none of them.
    """

    op = "stack_columns"

    def __init__(self, categories: Mapping[str, Sequence[str]], output: str) -> None:
        self.categories = {name: list(names) for name, names in categories.items()}
        self.output = output

    @property
    def inputs(self) -> Specs:
        return {
            name: tf.TensorSpec([None], tf.string if names else tf.float32, name=name)
            for name, names in self.categories.items()
        }

    def __call__(self, tensors: Tensors) -> Tensors:
        return {self.output: tf.stack([self._numbers(tensors[n], k) for n, k in self.categories.items()], axis=1)}

    def _numbers(self, column: tf.Tensor, names: Sequence[str]) -> tf.Tensor:
        if not names:
            return tf.cast(column, tf.float32)
        found = tf.equal(column[:, tf.newaxis], tf.constant(list(names), tf.string))  # [b, categories]
        number = tf.argmax(tf.cast(found, tf.int32), axis=1)
        return tf.where(tf.reduce_any(found, axis=1), tf.cast(number, tf.float32), -1.0)

    @cached_property
    def described(self) -> dict[str, Any]:
        return {"op": self.op, "columns": list(self.categories), "categories": self.categories, "output": self.output}


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

    @cached_property
    def described(self) -> dict[str, Any]:
        return self._entry(labels="labels.txt")


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

    @cached_property
    def described(self) -> dict[str, Any]:
        names = {"classes": "classes", "scores": "scores"}
        return {"op": self.op, "input": self.input, **names, "labels": "labels.txt"}


class NearestWords(_Step):
    """Similarities of the vocabulary's words, float32 [b, words] -> the `count` most similar, the most similar first.

    `neighbours` string [b, count] and their `similarity` float32 [b, count]; of equals, the more frequent word first.
    A vocabulary of fewer words gives all of them.
    """

    op = "nearest_words"

    def __init__(self, vocabulary: Sequence[str], count: int = 10, input: str = "similarities") -> None:
        self.vocabulary, self.count, self.input = list(vocabulary), min(count, len(vocabulary)), input

    @property
    def inputs(self) -> Specs:
        return {self.input: tf.TensorSpec([None, None], tf.float32, name=self.input)}

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("neighbours", "similarity")

    def __call__(self, tensors: Tensors) -> Tensors:
        similarity, ids = tf.math.top_k(tensors[self.input], self.count)  # [b, count]
        return {"neighbours": tf.gather(tf.constant(self.vocabulary, tf.string), ids), "similarity": similarity}

    @cached_property
    def described(self) -> dict[str, Any]:
        names = {"neighbours": "neighbours", "similarity": "similarity"}
        return {"op": self.op, "input": self.input, **names, "vocabulary": "vocabulary.txt", "count": self.count}


class EncodePng(_Step):
    """Class maps, int64 [b, h, w] -> string [b]: one grey 8-bit PNG per map; pixel values are class ids."""

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

    @cached_property
    def described(self) -> dict[str, Any]:
        return self._entry()
