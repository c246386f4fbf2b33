from __future__ import annotations

import dataclasses
from itertools import chain
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from ladle import models
from ladle.models._steps import Tokenize
from ladle.training import data
from ladle.training.data import DataError, Dataset, Kind, Provenance, Split
from ladle.training.data.pipeline import Prepared, prepare, words

PROVENANCE = Provenance("made", "here", "us", "none", "", True, "")


def images(count: int = 20, side: int = 28) -> Dataset:
    """Image i is full of i: an example tells its number."""
    x = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, side, side, 1)).copy()
    y = np.arange(count) % 2
    part = Split(x, y)
    return Dataset("made", "images", part, part, part, ("a", "b"), PROVENANCE)


def prepared(name: str = "lenet5", dataset: Dataset | None = None, **overrides: Any) -> Prepared:
    network = models.get(name)
    return prepare(network, network.configured(**{"batch_size": 4, **overrides}), dataset or images())


def numbers(batches: tf.data.Dataset) -> list[list[int]]:
    return [np.rint(x[:, 0, 0, 0] * 255).astype(int).tolist() for x, _ in batches.as_numpy_iterator()]


def test_batches_are_scaled_images_with_their_labels() -> None:
    for x, y in prepared().training_batches(0).as_numpy_iterator():
        assert (x.dtype, x.shape, y.dtype) == (np.float32, (4, 28, 28, 1), np.int32)
        assert x.max() <= 1
        assert (np.rint(x[:, 0, 0, 0] * 255).astype(int) % 2 == y).all()


def test_an_epoch_has_each_example_once_in_an_order_fixed_by_seed_and_epoch() -> None:
    ours = prepared()
    first = numbers(ours.training_batches(0))
    assert sorted(chain.from_iterable(first)) == list(range(20))
    assert numbers(ours.training_batches(0)) == first
    assert numbers(ours.training_batches(1)) != first
    assert numbers(prepared(seed=1).training_batches(0)) != first


def test_an_epoch_can_begin_at_any_step() -> None:
    ours = prepared()
    assert numbers(ours.training_batches(3, first_step=2)) == numbers(ours.training_batches(3))[2:]


def test_training_drops_what_fills_no_batch_and_validation_does_not() -> None:
    ours = prepared(batch_size=8)
    assert ours.steps == 2
    assert [len(batch) for batch in numbers(ours.training_batches(0))] == [8, 8]
    assert numbers(ours.validation_batches()) == [[*range(8)], [*range(8, 16)], [*range(16, 20)]]


def test_a_batch_larger_than_the_set_becomes_the_set() -> None:
    ours = prepared(batch_size=1000)
    assert (ours.steps, ours.batch_size) == (1, 20)


def test_train_limit_uses_the_same_examples_each_epoch() -> None:
    ours = prepared(train_limit=8)
    seen = [sorted(chain.from_iterable(numbers(ours.training_batches(epoch)))) for epoch in range(3)]
    assert ours.steps == 2
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen[0])) == 8


def test_images_are_held_once_and_as_bytes() -> None:
    ours = prepared()
    assert ours.train.x.dtype == tf.uint8
    view = np.asarray(memoryview(ours.train.x))
    assert np.shares_memory(view, ours.dataset.train.x)
    assert np.shares_memory(view, np.asarray(memoryview(ours.train.x)))


def test_facts_of_the_data_go_into_the_config() -> None:
    ours = prepared(dataset=images(side=16))
    assert (ours.config.height, ours.config.width, ours.config.channels, ours.config.num_classes) == (16, 16, 1, 2)  # type: ignore[attr-defined]
    segment = prepare(models.get("unet"), models.get("unet").config, data.load("synthetic_blobs", count=20))
    assert segment.config.num_classes == 1  # type: ignore[attr-defined]  # besides the background


@pytest.mark.parametrize("name", ["vae", "wgan_gp"])
def test_networks_without_targets_get_images_alone(name: str) -> None:
    batch = next(prepared(name).training_batches(0).as_numpy_iterator())
    assert (batch.dtype, batch.shape) == (np.float32, (4, 28, 28, 1))


def test_augmentation_is_the_same_for_the_same_example_and_epoch_wherever_the_run_began() -> None:
    dataset = data.load("synthetic_blobs", count=30, height=16, width=16)
    network = models.get("unet")
    ours = prepare(network, network.configured(batch_size=4, augment=True), dataset)
    plain = prepare(network, network.configured(batch_size=4, augment=False), dataset)
    whole = list(ours.training_batches(1).as_numpy_iterator())
    again = list(ours.training_batches(1, first_step=2).as_numpy_iterator())
    for (x, y), (x2, y2) in zip(whole[2:], again, strict=True):
        np.testing.assert_array_equal(x, x2)
        np.testing.assert_array_equal(y, y2)
    unchanged = next(plain.training_batches(1).as_numpy_iterator())
    assert (whole[0][0] != unchanged[0]).any()


def test_augmentation_moves_masks_with_their_images() -> None:
    side = 16
    x = np.random.default_rng(0).integers(0, 2, (12, side, side, 1), np.uint8)
    part = Split(x * 255, x[..., 0])
    dataset = Dataset("made", "masks", part, part, part, ("background", "thing"), PROVENANCE)
    network = models.get("unet")
    ours = prepare(network, network.configured(batch_size=4, augment=True), dataset)
    for image, mask in ours.training_batches(0).as_numpy_iterator():
        np.testing.assert_array_equal(image[..., 0], mask)


def test_cells_come_in_every_orientation_and_shirts_never_lie_down() -> None:
    side = 12
    x = np.zeros((200, side, side, 1), np.uint8)
    x[:, :6, :2] = 255  # a block in one corner, higher than wide by more than a shift changes
    part = Split(x, x[..., 0] // 255)
    classes = Split(x, np.zeros(200, int))

    def orientations(network: str, kind: Kind, part: Split) -> set[tuple[bool, bool, bool]]:
        dataset = Dataset("made", kind, part, part, part, ("background", "thing"), PROVENANCE)
        found = models.get(network)
        ours = prepare(found, found.configured(batch_size=200, augment=True), dataset)
        images, _ = next(ours.training_batches(0).as_numpy_iterator())
        rows, columns = images[..., 0].max(2), images[..., 0].max(1)  # [b, side]
        high = rows.sum(1) > columns.sum(1)
        return {*zip(rows[:, 0] > 0, columns[:, 0] > 0, high, strict=True)}

    assert len(orientations("unet", "masks", part)) == 8
    assert {(top, high) for top, _, high in orientations("lenet5", "images", classes)} == {(True, True)}


def test_digits_are_not_mirrored() -> None:
    x = np.zeros((40, 8, 8, 1), np.uint8)
    x[:, :, :4] = 255  # bright on the left
    part = Split(x, np.zeros(40, int))

    def left_is_bright(labels: tuple[str, ...]) -> list[bool]:
        dataset = Dataset("made", "images", part, part, part, labels, PROVENANCE)
        network = models.get("lenet5")
        ours = prepare(network, network.configured(batch_size=40, augment=True), dataset)
        batch, _ = next(ours.training_batches(0).as_numpy_iterator())
        return [bool(image[0, 0, 0] > image[0, -1, 0]) for image in batch]

    assert all(left_is_bright(("0", "1")))
    assert set(left_is_bright(("shirt", "shoe"))) == {True, False}


def test_the_vocabulary_is_that_of_the_training_split_alone() -> None:
    def texts(*lines: bytes) -> Split:
        x = np.array([*lines, b""], object)[:-1]
        return Split(x, np.arange(len(lines)) % 2)

    train = texts(b"Good, good film!<br />a", b"bad film", b"good")
    held = texts(b"unheard film", b"more good")
    dataset = Dataset("made", "text", train, held, held, ("negative", "positive"), PROVENANCE)
    network = models.get("sentiment_lstm")
    ours = prepare(network, network.configured(batch_size=2, max_length=4, vocab_size=6), dataset)
    assert ours.assets.vocabulary == ("good", "film", "a")
    assert ours.config.vocab_size == 6  # type: ignore[attr-defined]
    assert ours.validation.inputs().tolist() == [[0, 1, 2, 4], [0, 1, 2, 3]]
    tokens, label = next(ours.training_batches(0).as_numpy_iterator())
    assert (tokens.dtype, label.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize(
    "text", [b"One,two  ONE\tthree!", b"caf\xc3\xa9 Caf\xc3\xa9 CAF\xc3\x89", b"a<br />b", b"\x0bx"]
)
def test_words_are_split_as_the_served_tokenizer_does(text: bytes) -> None:
    found = words([text], 100)
    ids = Tokenize(found, 10)({"text": tf.constant([text])})["tokens"].numpy()[0]
    assert 2 not in ids  # no unknown word
    assert set(ids[ids > 2] - 3) == set(range(len(found)))


def test_words_of_equal_frequency_are_in_the_order_of_their_bytes() -> None:
    assert words([b"b a c", b"c"], 2) == ("c", "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"kind": "text"}, "made holds text; expected images for lenet5", id="another kind"),
        pytest.param(
            {"validation": Split(np.zeros((0, 28, 28, 1), np.uint8), np.zeros(0, int))}, "no validation", id="empty"
        ),
    ],
)
def test_unfit_data_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepared(dataset=dataclasses.replace(images(), **change))


def test_text_cannot_be_augmented() -> None:
    network = models.get("sentiment_lstm")
    with pytest.raises(DataError, match="augment changes images"):
        prepare(network, network.configured(augment=True), data.load("synthetic_texts", count=20))


def test_a_model_is_not_measured_on_data_with_other_labels() -> None:
    with pytest.raises(DataError, match="other labels than the model; expected x, y"):
        prepare(models.get("lenet5"), models.get("lenet5").config, images(), models.Assets(("x", "y")))


def test_texts_without_words_are_refused() -> None:
    part = Split(np.array([b"!", b""], object), np.array([0, 1]))
    dataset = Dataset("made", "text", part, part, part, ("negative", "positive"), PROVENANCE)
    with pytest.raises(DataError, match="no word"):
        prepare(models.get("sentiment_lstm"), models.get("sentiment_lstm").config, dataset)


def bent(x: np.ndarray, y: np.ndarray, epoch: int = 0, first_step: int = 0, **overrides: Any) -> list[Any]:
    """Batches of images and masks that are bent, and nothing else."""
    dataset = Dataset("made", "masks", *[Split(x, y)] * 3, ("background", "thing"), PROVENANCE)
    network = models.get("unet")
    settings = {"batch_size": 4, "augment": False, "elastic": 2.0, **overrides}
    ours = prepare(network, network.configured(**settings), dataset)
    return list(ours.training_batches(epoch, first_step).as_numpy_iterator())


def test_elastic_bending_moves_images_and_masks_alike_and_differently_each_epoch() -> None:
    side = 32
    y = np.zeros((12, side, side), np.uint8)
    y[:, 8:24, 8:24] = 1
    x = 255 * y[..., None]
    first, again, other = bent(x, y), bent(x, y, first_step=1), bent(x, y, epoch=1)
    for image, mask in first:
        agree = (image[..., 0] > 0.5) == (mask > 0)  # bilinear and nearest differ in half a pixel
        assert agree.mean() > 0.98
        assert 0.02 < (mask != y[0]).mean() < 0.3
        assert 0.5 < mask.sum() / y[:4].sum() < 1.6
    np.testing.assert_array_equal(first[1][0], again[0][0])
    assert (first[0][0] != other[0][0]).any()


def test_elastic_bending_is_smooth_and_as_strong_as_asked() -> None:
    side = 33
    place = np.broadcast_to(np.arange(side, dtype=np.uint8) * 7, (400, side, side))[..., None]  # tells its column
    batch = bent(place.copy(), place[..., 0] // 255, batch_size=400)[0][0][..., 0] * 255 / 7
    by = batch[:, 8:-8, 8:-8] - np.arange(side)[8:-8]
    assert by.std() == pytest.approx(2.0 * 0.6, abs=0.35)  # between the points of the grid it is less than at them
    assert np.abs(np.diff(by, axis=1)).max() < 1.5


def pieces(x: np.ndarray, y: np.ndarray, epoch: int = 0, first_step: int = 0, **overrides: Any) -> list[Any]:
    """Batches of pieces of 8x8, not changed otherwise."""
    return bent(x, y, epoch, first_step, **{"elastic": 0.0, "crop": 8, **overrides})


def test_an_epoch_of_crops_has_the_area_of_the_images_and_each_piece_its_place_and_mask() -> None:
    height, width = 16, 24
    place = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    y = np.broadcast_to((place % 251).astype(np.uint8), (6, height, width)).copy()
    x = np.stack([y, np.broadcast_to(np.arange(6, dtype=np.uint8)[:, None, None], y.shape)], axis=-1)  # tells its image
    batches = pieces(x, y, batch_size=6)
    assert len(batches) == 6  # 6 images, of 6 pieces each
    images, found = [], set()
    for image, mask in batches:
        assert image.shape == (6, 8, 8, 2)
        np.testing.assert_array_equal(np.rint(255 * image[..., 0]), mask)
        assert (np.diff(mask.astype(int), axis=2) % 251 == 1).all()  # neighbours in their image too
        images += np.rint(255 * image[:, 0, 0, 1]).astype(int).tolist()
        found |= set(mask[:, 0, 0].tolist())
    assert sorted(images) == sorted(6 * list(range(6)))
    assert len(found) > 12
    np.testing.assert_array_equal(pieces(x, y, first_step=4, batch_size=6)[0][1], batches[4][1])
    assert (pieces(x, y, epoch=1, batch_size=6)[0][1] != batches[0][1]).any()


def test_crops_are_bent_and_moved_too_and_whole_images_validate() -> None:
    x = np.random.default_rng(0).integers(0, 2, (6, 16, 16, 1), np.uint8)
    dataset = Dataset("made", "masks", *[Split(x * 255, x[..., 0])] * 3, ("background", "thing"), PROVENANCE)
    network = models.get("unet")
    ours = prepare(network, network.configured(batch_size=8, crop=8, augment=True), dataset)
    for image, mask in ours.training_batches(0).as_numpy_iterator():
        assert image.shape == (8, 8, 8, 1)
        np.testing.assert_array_equal(image[..., 0], mask)
    assert next(ours.validation_batches().as_numpy_iterator())[0].shape == (6, 16, 16, 1)
    assert [batch[0].shape for batch in pieces(x * 255, x[..., 0], elastic=2.0)] == 6 * [(4, 8, 8, 1)]


@pytest.mark.parametrize("crop", [-1, 17])
def test_a_crop_that_does_not_fit_is_refused(crop: int) -> None:
    x = np.zeros((4, 16, 20), np.uint8)
    with pytest.raises(
        DataError, match=f"crop is {crop} and the images of made are 16x20; expected --crop 1 to 16, or 0"
    ):
        pieces(x[..., None], x, crop=crop)
