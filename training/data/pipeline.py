"""Turns a data set into batches: the inputs of the network, held in memory once, with tf.data pipelines over them.

Images stay uint8 in memory and become float32 in [0, 1] batch by batch. The order of an epoch and its augmentation
depend only on (seed, epoch), so a run can be resumed at any step.
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
from ladle.training.data.augmentation import Change, Crops, Elastic, ShiftsAndFlips
from ladle.training.data.dataset import Array, Dataset, Kind, Split
from ladle.training.data.errors import DataError
from ladle.training.data.registry import own_name

KIND_OF_TASK: dict[Task, Kind] = {
    "classify": "images",
    "sentiment": "text",
    "regress": "table",
    "reconstruct": "images",
    "generate": "images",
    "segment": "masks",
    "filter": "images",
}
SEPARATORS = bytes.maketrans(FILTERED.encode(), b" " * len(FILTERED))
TOKENIZED_AT_ONCE = 2048
"""Texts per call of the tokenizer: all at once would need much memory for intermediate strings."""
HOST = "CPU:0"
"""The data stay in main memory, with or without a GPU."""
LARGE = 1 << 20
"""Bytes from which an array is copied by hand, once."""
ALIGNED = 64
"""Alignment of tensors in bytes."""


@dataclass(frozen=True)
class Part:
    """One split in the form that the network reads, except that images are not scaled.

    x  uint8 [n, h, w, c], int32 [n, max_length] or float32 [n, d]
    y  class ids [n], masks [n, h, w], values [n], or None if the task needs no targets
    """

    x: tf.Tensor
    y: tf.Tensor | None

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def inputs(self, rows: slice | Array = slice(None)) -> Array:
        """Inputs of some rows as the network reads them: images float32 in [0, 1], everything else unchanged."""
        x = _view(self.x)[rows]
        return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x

    def targets(self, rows: slice | Array = slice(None)) -> Array:
        """Targets of some rows; the task must have targets."""
        assert self.y is not None
        return _view(self.y)[rows]


@dataclass(frozen=True)
class Prepared:
    """A data set prepared for one network.

    config   the network's config, completed with facts of the data such as height and num_classes
    assets   labels and vocabulary that are exported with the model
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
        """Number of training examples in use: all, or train_limit."""
        limit = self.config.train_limit
        return min(limit, len(self.train)) if limit else len(self.train)

    @property
    def pieces(self) -> int:
        """Crops of each training image per epoch, enough to cover its area; 1 without cropping."""
        crop = getattr(self.config, "crop", 0)
        height, width = self.train.x.shape[1:3] if crop else (1, 1)
        return max(1, height * width // crop**2) if crop else 1

    @property
    def steps(self) -> int:
        """Steps per epoch. Examples that do not fill a batch are left out; another epoch's order includes them."""
        return self.train_size * self.pieces // self.batch_size

    def training_batches(self, epoch: int, first_step: int = 0) -> tf.data.Dataset:
        """The batches of an epoch (from 0), starting at a step; the same seed gives the same batches."""
        order = self._order(epoch)[first_step * self.batch_size :]
        return self._batches(self.train, order, self.batch_size, True, self._changes(epoch), self.pieces)

    def validation_batches(self, drop_remainder: bool = False) -> tf.data.Dataset:
        """The batches of the validation split, in order."""
        size = min(self.config.batch_size, len(self.validation))
        return self._batches(self.validation, np.arange(len(self.validation)), size, drop_remainder, ())

    def chosen(self) -> Array:
        """Rows of the training examples in use: int64 [train_size], in random order."""
        return np.random.default_rng([self.config.seed, 0]).permutation(len(self.train))[: self.train_size]

    def _order(self, epoch: int) -> Array:
        # The second number of a seed keeps the random streams apart: 0 choice of examples, 1 their order, 2 shifts and
        # flips, 3 elastic deformation, 4 crops.
        pieces = self.chosen()[:, np.newaxis] * self.pieces + np.arange(self.pieces)
        return np.random.default_rng([self.config.seed, 1, epoch]).permutation(pieces.ravel())

    def _changes(self, epoch: int) -> list[Change]:
        """The augmentations of the crops of an epoch, in the order in which they apply."""
        config, count = self.config, len(self.train) * self.pieces
        shape = [count, *self.train.x.shape[1:]]
        with tf.device(HOST):
            changes: list[Change] = []
            if crop := getattr(config, "crop", 0):
                changes.append(Crops.drawn([config.seed, 4, epoch], shape, crop))
                shape[1:3] = [crop, crop]
            if config.augment:
                changes.append(ShiftsAndFlips.drawn([config.seed, 2, epoch], shape, self.task, self.assets.labels))
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
            # Ids are put in order and batched, not examples: a resumed run starts at any step without reading the ones
            # before it.
            ids = tf.data.Dataset.from_tensor_slices(order.astype(np.int32)).batch(size, drop_remainder)
            batches = ids.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            return batches.prefetch(tf.data.AUTOTUNE).with_options(_as_written())


def prepare(network: Network, config: Config, dataset: Dataset, assets: Assets | None = None) -> Prepared:
    """Prepare a data set for a network: copy facts of the data into the config and turn words into tokens.

    assets  labels and vocabulary of a trained model that is evaluated; without it, the vocabulary is built from the
            training split alone

    DataError: a data set of another kind or with other labels, a split without examples, or augmentation of text.
    """
    kind = network.takes or KIND_OF_TASK[network.task]
    if dataset.kind != kind:
        raise DataError(
            f"{dataset.name} holds {dataset.kind}; expected {kind} for {network.name}: choose another --data"
        )
    for name in ("augment", "elastic"):
        if getattr(config, name) and kind not in ("images", "masks"):
            raise DataError(
                f"{network.name}: --{name} changes images, but {dataset.name} holds {kind}; leave --{name} out"
            )
    if network.task == "classify" and len(dataset.labels or ()) < 2:
        found = f"pictures of one class, {dataset.labels[0]}" if dataset.labels else "pictures without classes"
        where = own_name(dataset.provenance.source) or dataset.name
        note = dataset.provenance.notes.rpartition("; ")[2]
        found += f" ({note})" if note.endswith("so no class") else ""
        raise DataError(
            f"{where}: holds {found}; expected two classes or more: put the pictures of each into a folder of its own"
        )
    if chosen := getattr(config, "classes", ()):
        dataset = only(dataset, chosen)
    # After the choice of classes, which can leave a split empty.
    for name, size in dataset.sizes().items():
        if not size:
            raise DataError(f"{dataset.name} has no {name} examples; expected some in each split")
    if assets is not None and assets.labels != (dataset.labels or ()):
        expected = ", ".join(assets.labels) or "no labels"
        raise DataError(f"{dataset.name} has other labels than the model; expected {expected}: choose another --data")
    vocabulary = assets.vocabulary if assets is not None else ()
    if dataset.kind == "text" and assets is None:
        vocabulary = words(dataset.train.x, getattr(config, "vocab_size") - FIRST_WORD)  # noqa: B009
        if not vocabulary:
            raise DataError(f"{dataset.name}: the training texts hold no words; check the files")
    if (crop := getattr(config, "crop", 0)) and not 0 < crop <= min(dataset.train.x.shape[1:3]):
        height, width = dataset.train.x.shape[1:3]
        raise DataError(
            f"crop is {crop} and the images of {dataset.name} are {height}x{width}; expected --crop 1 to "
            f"{min(height, width)}, or 0 for whole images"
        )
    config = dataclasses.replace(config, **_facts(config, dataset, vocabulary))
    parts = [dataset.train, dataset.validation, dataset.test]
    if dataset.kind == "text":
        tokenize = Tokenize(vocabulary, getattr(config, "max_length"))  # noqa: B009
        parts = [Split(_tokens(tokenize, part.x), part.y) for part in parts]
    targets = network.task not in ("reconstruct", "generate", "filter")
    with tf.device(HOST):
        ready = [Part(_tensor(part.x), tf.constant(part.y) if targets else None) for part in parts]
    if dataset.kind != "text":  # views of the tensors' memory, so that nothing is held twice
        train, validation, test = (Split(_view(p.x), old.y) for p, old in zip(ready, parts, strict=True))
        dataset = dataclasses.replace(dataset, train=train, validation=validation, test=test)
    return Prepared(network.task, config, Assets(dataset.labels or (), vocabulary), dataset, *ready)


def only(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """The examples of some classes, renumbered 0, 1 ... in the given order; DataError for an unknown class."""
    labels = dataset.labels or ()
    for label in classes:
        if label not in labels:
            raise DataError(f"{dataset.name} has no class {label!r}; expected one of {', '.join(labels) or 'none'}")

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
    # Ties go by the word, so that the vocabulary does not depend on the order of the texts.
    ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    return tuple(word.decode() for word, _ in ranked[:count])


def _tokens(tokenize: Tokenize, texts: Array) -> Array:
    ids = [
        tokenize({"text": tf.constant(texts[i : i + TOKENIZED_AT_ONCE].tolist())})["tokens"].numpy()
        for i in range(0, len(texts), TOKENIZED_AT_ONCE)
    ]
    return np.concatenate(ids)


def _facts(config: Config, dataset: Dataset, vocabulary: tuple[str, ...]) -> dict[str, Any]:
    """Values of config fields that the data set determines, for those fields that the config has."""
    facts: dict[str, Any] = {}
    if dataset.kind in ("images", "masks"):
        facts = dict(zip(("height", "width", "channels"), dataset.train.x.shape[1:], strict=True))
    if dataset.kind == "text":
        facts = {"vocab_size": len(vocabulary) + FIRST_WORD}
    if dataset.kind == "table":
        facts = {"features": dataset.train.x.shape[1], **_statistics(dataset)}
    if dataset.labels:  # segmentation networks do not count the background as a class
        facts["num_classes"] = len(dataset.labels) - (dataset.kind == "masks")
    known = {field.name for field in dataclasses.fields(config)}
    return {name: value for name, value in facts.items() if name in known}


def _statistics(dataset: Dataset) -> dict[str, Any]:
    """What a table's columns hold, and mean and deviation in training of the numbers among them and of the target."""
    x, y, columns = dataset.train.x.astype(np.float64), dataset.train.y, dataset.columns or ()
    counts = tuple(len(dataset.categories.get(name, ())) for name in columns)
    means, deviations = np.zeros(len(columns)), np.ones(len(columns))
    for i, count in enumerate(counts):
        known = x[~np.isnan(x[:, i]), i]
        if not count and len(known):
            means[i], deviations[i] = known.mean(), known.std() or 1.0
    facts: dict[str, Any] = {"columns": columns, "category_counts": counts}
    facts |= {"categories": tuple(name for column in columns for name in dataset.categories.get(column, ()))}
    facts |= {"means": tuple(means.tolist()), "deviations": tuple(deviations.tolist())}
    if not dataset.labels and y is not None:
        facts |= {
            "target_mean": float(y.mean(dtype=np.float64)),
            "target_deviation": float(y.std(dtype=np.float64)) or 1.0,
        }
    return facts


def _as_written() -> tf.data.Options:
    """Options that keep tf.data from rewriting its graph: that copies the data and makes these batches no faster."""
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return options


def _tensor(array: Array) -> tf.Tensor:
    """A tensor with a copy of the array. tf.constant would hold two copies for a while."""
    if array.nbytes < LARGE:
        return tf.constant(array)
    # Tensors begin at multiples of ALIGNED bytes; the memory of a NumPy array need not.
    memory = np.empty(array.nbytes + ALIGNED, np.uint8)
    begin = -memory.ctypes.data % ALIGNED
    aligned = memory[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    aligned[...] = array
    return tf.experimental.dlpack.from_dlpack(aligned.__dlpack__())


def _view(tensor: tf.Tensor) -> Array:
    """A read-only view of the tensor's memory."""
    return np.asarray(memoryview(tensor))
