"""From a data set to batches: what the network takes, in memory once, and tf.data pipelines over it.

Images stay uint8 in memory and become float32 [0, 1] batch by batch. The order of an epoch and its augmentation are
fixed by (seed, epoch), so that a run can be resumed at any step.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from ladle.models import Assets, Config, Network, Task
from ladle.models._steps import FILTERED, FIRST_WORD, Tokenize
from ladle.training.data.augmentation import Change, Crops, Elastic, Moves
from ladle.training.data.dataset import Array, Dataset, Kind, Split
from ladle.training.data.errors import DataError

WANTED: dict[Task, Kind] = {
    "classify": "images",
    "sentiment": "text",
    "regress": "table",
    "reconstruct": "images",
    "generate": "images",
    "segment": "masks",
}
SEPARATORS = bytes.maketrans(FILTERED.encode(), b" " * len(FILTERED))
TOKENIZED_AT_ONCE = 2048
HOST = "CPU:0"
"""Where the data stay, GPU or not."""
LARGE = 1 << 20
ALIGNED = 64
"""Bytes: tensors begin at multiples of it."""


@dataclass(frozen=True)
class Part:
    """One split as the network takes it, but for the scale.

    x  uint8 [n, h, w, c], int32 [n, max_length] or float32 [n, d]
    y  class ids [n], masks [n, h, w], figures [n], or None when the task needs no target
    """

    x: tf.Tensor
    y: tf.Tensor | None

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def inputs(self, rows: slice | Array = slice(None)) -> Array:
        """Some inputs as the network takes them: images float32 in [0, 1], all else unchanged."""
        x = _view(self.x)[rows]
        return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x

    def targets(self, rows: slice | Array = slice(None)) -> Array:
        assert self.y is not None
        return _view(self.y)[rows]


@dataclass(frozen=True)
class Prepared:
    """A data set made ready for one network.

    config   the network's config with the facts of the data filled in
    assets   labels and vocabulary that travel with the model
    dataset  the data set it came from
    """

    task: Task
    config: Config
    assets: Assets
    dataset: Dataset
    train: Part
    validation: Part
    test: Part

    @property
    def batch_size(self) -> int:
        return min(self.config.batch_size, self.train_size * self.pieces)

    @property
    def train_size(self) -> int:
        """Training examples in use: all, or train_limit of them."""
        limit = self.config.train_limit
        return min(limit, len(self.train)) if limit else len(self.train)

    @property
    def pieces(self) -> int:
        """Crops of each training image in an epoch: as many as have its area; 1 when images stay whole."""
        crop = getattr(self.config, "crop", 0)
        height, width = self.train.x.shape[1:3] if crop else (1, 1)
        return max(1, height * width // crop**2) if crop else 1

    @property
    def steps(self) -> int:
        """Steps of an epoch; the examples that fill no batch rest until another epoch's order."""
        return self.train_size * self.pieces // self.batch_size

    def training_batches(self, epoch: int, first_step: int = 0) -> tf.data.Dataset:
        """The batches of an epoch (counted from 0) from a step on: the same ones for the same seed."""
        order = self._order(epoch)[first_step * self.batch_size :]
        return self._batches(self.train, order, self.batch_size, True, self._changes(epoch), self.pieces)

    def validation_batches(self, drop_remainder: bool = False) -> tf.data.Dataset:
        """The validation split in its order."""
        size = min(self.config.batch_size, len(self.validation))
        return self._batches(self.validation, np.arange(len(self.validation)), size, drop_remainder, ())

    def chosen(self) -> Array:
        """The training examples in use, by row."""
        return np.random.default_rng([self.config.seed, 0]).permutation(len(self.train))[: self.train_size]

    def _order(self, epoch: int) -> Array:
        pieces = self.chosen()[:, np.newaxis] * self.pieces + np.arange(self.pieces)
        return np.random.default_rng([self.config.seed, 1, epoch]).permutation(pieces.ravel())

    def _changes(self, epoch: int) -> list[Change]:
        """What augmentation does to the pieces of the training images in an epoch."""
        config, count = self.config, len(self.train) * self.pieces
        shape = [count, *self.train.x.shape[1:]]
        with tf.device(HOST):
            changes: list[Change] = []
            if crop := getattr(config, "crop", 0):
                changes.append(Crops.drawn([config.seed, 4, epoch], shape, crop))
                shape[1:3] = [crop, crop]
            if config.augment:
                changes.append(Moves.drawn([config.seed, 2, epoch], shape, self.task, self.assets.labels))
            if config.elastic:
                changes.append(Elastic.drawn([config.seed, 3, epoch], count, config.elastic))
            return changes

    def _batches(
        self, part: Part, order: Array, size: int, drop_remainder: bool, changes: Sequence[Change], pieces: int = 1
    ) -> tf.data.Dataset:
        def batch(ids: tf.Tensor) -> Any:
            rows = ids // pieces
            x = tf.gather(part.x, rows)
            y = None if part.y is None else tf.gather(part.y, rows)
            for change in changes:
                x, y = change(ids, x, y)
            if x.dtype == tf.uint8:
                x = tf.cast(x, tf.float32) / 255.0
            if y is None:
                return x
            return x, tf.cast(y, tf.int32 if self.task in ("classify", "segment") else tf.float32)

        with tf.device(HOST):
            ids = tf.data.Dataset.from_tensor_slices(order.astype(np.int32)).batch(size, drop_remainder)
            batches = ids.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            return batches.prefetch(tf.data.AUTOTUNE).with_options(_as_written())


def prepare(network: Network, config: Config, dataset: Dataset, assets: Assets | None = None) -> Prepared:
    """Make a data set ready for a network: facts of the data into the config, words into tokens.

    The vocabulary is that of the training split alone, or that of `assets` when a trained model is to be measured.
    Raises DataError: a data set of another kind or with other labels, a split without examples, augmented text.
    """
    kind = WANTED[network.task]
    if dataset.kind != kind:
        raise DataError(f"{dataset.name} holds {dataset.kind}; {network.name} wants {kind}: give another --data")
    for name in ("augment", "elastic"):
        if getattr(config, name) and kind not in ("images", "masks"):
            raise DataError(
                f"{network.name}: {name} changes images, and {dataset.name} holds {kind}; leave --{name} out"
            )
    if chosen := getattr(config, "classes", ()):
        dataset = only(dataset, chosen)
    for name, size in dataset.sizes().items():
        if not size:
            raise DataError(f"{dataset.name} has no {name} examples; {network.name} needs some in each split")
    if assets is not None and assets.labels != (dataset.labels or ()):
        wanted = ", ".join(assets.labels) or "none"
        raise DataError(f"{dataset.name} has other labels than the model, which knows {wanted}: give another --data")
    vocabulary = assets.vocabulary if assets is not None else ()
    if dataset.kind == "text" and assets is None:
        vocabulary = words(dataset.train.x, getattr(config, "vocab_size") - FIRST_WORD)  # noqa: B009
        if not vocabulary:
            raise DataError(f"{dataset.name}: its training texts hold no word; look at the files")
    if (crop := getattr(config, "crop", 0)) and not 0 < crop <= min(dataset.train.x.shape[1:3]):
        height, width = dataset.train.x.shape[1:3]
        raise DataError(
            f"crop is {crop}, but the images of {dataset.name} are {height}x{width}; give --crop 1 to "
            f"{min(height, width)}, or 0 for whole images"
        )
    config = dataclasses.replace(config, **_facts(config, dataset, vocabulary))
    parts = [dataset.train, dataset.validation, dataset.test]
    if dataset.kind == "text":
        tokenize = Tokenize(vocabulary, getattr(config, "max_length"))  # noqa: B009
        parts = [Split(_tokens(tokenize, part.x), part.y) for part in parts]
    targets = network.task not in ("reconstruct", "generate")
    with tf.device(HOST):
        ready = [Part(_tensor(part.x), tf.constant(part.y) if targets else None) for part in parts]
    if dataset.kind != "text":  # NumPy sees the tensors' memory: nothing is held twice
        train, validation, test = (Split(_view(p.x), old.y) for p, old in zip(ready, parts, strict=True))
        dataset = dataclasses.replace(dataset, train=train, validation=validation, test=test)
    return Prepared(network.task, config, Assets(dataset.labels or (), vocabulary), dataset, *ready)


def only(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """The examples of some classes, whose ids are then 0, 1 ... in the order given; DataError for an unknown one."""
    labels = dataset.labels or ()
    for label in classes:
        if label not in labels:
            raise DataError(f"{dataset.name} has no class {label!r}; it has {', '.join(labels) or 'none'}")

    def chosen(part: Split) -> Split:
        ids = np.full(len(labels), -1)
        ids[[labels.index(label) for label in classes]] = np.arange(len(classes))
        y = ids[np.asarray(part.y)]
        return Split(part.x[y >= 0], y[y >= 0])

    train, validation, test = map(chosen, (dataset.train, dataset.validation, dataset.test))
    return dataclasses.replace(dataset, labels=tuple(classes), train=train, validation=validation, test=test)


def words(texts: Iterable[bytes], count: int) -> tuple[str, ...]:
    """The `count` most frequent words, most frequent first, split as models._steps.Tokenize does."""
    counter: Counter[bytes] = Counter()
    for text in texts:
        counter.update(text.replace(b"<br />", b" ").lower().translate(SEPARATORS).split(b" "))
    del counter[b""]
    ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    return tuple(word.decode() for word, _ in ranked[:count])


def _tokens(tokenize: Tokenize, texts: Array) -> Array:
    ids = [
        tokenize({"text": tf.constant(texts[i : i + TOKENIZED_AT_ONCE].tolist())})["tokens"].numpy()
        for i in range(0, len(texts), TOKENIZED_AT_ONCE)
    ]
    return np.concatenate(ids)


def _facts(config: Config, dataset: Dataset, vocabulary: tuple[str, ...]) -> dict[str, Any]:
    """What the data set decides, of the fields that the config has."""
    facts: dict[str, Any] = {}
    if dataset.kind in ("images", "masks"):
        facts = dict(zip(("height", "width", "channels"), dataset.train.x.shape[1:], strict=True))
    if dataset.kind == "text":
        facts = {"vocab_size": len(vocabulary) + FIRST_WORD}
    if dataset.kind == "table":
        facts = {"features": dataset.train.x.shape[1]}
    if dataset.labels:  # a network that segments does not count the background
        facts["num_classes"] = len(dataset.labels) - (dataset.kind == "masks")
    known = {field.name for field in dataclasses.fields(config)}
    return {name: value for name, value in facts.items() if name in known}


def _as_written() -> tf.data.Options:
    """tf.data's rewriting of its graph puts a second copy of the data there, and makes these batches no faster."""
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return options


def _tensor(array: Array) -> tf.Tensor:
    """The array copied once into a tensor's memory; tf.constant would hold two copies."""
    if array.nbytes < LARGE:
        return tf.constant(array)
    memory = np.empty(array.nbytes + ALIGNED, np.uint8)
    begin = -memory.ctypes.data % ALIGNED
    aligned = memory[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    aligned[...] = array
    return tf.experimental.dlpack.from_dlpack(aligned.__dlpack__())


def _view(tensor: tf.Tensor) -> Array:
    """The tensor's own memory, read-only."""
    return np.asarray(memoryview(tensor))
