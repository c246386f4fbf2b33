"""The steps in TensorFlow; serving/test_steps.py holds the NumPy twins to them."""

from __future__ import annotations

import io
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ladle.models import _steps as steps

WORDS = ("the", "film", "was", "it's", "café", "10")


def tokens(text: str | bytes, max_length: int = 8) -> list[int]:
    step = steps.Tokenize(WORDS, max_length)
    answer = step({"text": tf.constant([text])})["tokens"]
    assert answer.dtype == tf.int32
    assert answer.shape == (1, max_length)
    ids: list[int] = answer.numpy()[0].tolist()
    return ids


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("the film", [0, 0, 0, 0, 0, 1, 3, 4]),
        ("The FILM, was... it's!", [0, 0, 0, 1, 3, 4, 5, 6]),
        ("the<br /><br />film", [0, 0, 0, 0, 0, 1, 3, 4]),
        ("the\tfilm\r\nwas", [0, 0, 0, 0, 1, 3, 4, 5]),
        ("a café in 10", [0, 0, 0, 1, 2, 7, 2, 8]),
        ("CAFÉ", [0, 0, 0, 0, 0, 0, 1, 2]),  # only ASCII letters become small
        ("the-film[was]^\\the", [0, 0, 0, 1, 3, 4, 5, 3]),
        ("", [0, 0, 0, 0, 0, 0, 0, 1]),
        (" ...  ", [0, 0, 0, 0, 0, 0, 0, 1]),
        ("the " * 20 + "film", [3, 3, 3, 3, 3, 3, 3, 4]),
        (b"\xff\xfe the", [0, 0, 0, 0, 0, 1, 2, 3]),
    ],
    ids=[
        "words",
        "punctuation",
        "break",
        "blanks",
        "unknown",
        "capital accent",
        "brackets",
        "empty",
        "dots",
        "long",
        "no UTF-8",
    ],
)
def test_text_becomes_the_token_ids_of_keras(text: str | bytes, ids: list[int]) -> None:
    assert tokens(text) == ids


def test_a_batch_of_texts_is_tokenized_row_by_row() -> None:
    step = steps.Tokenize(WORDS, 4)
    answer = step({"text": tf.constant(["the", "", "was the film was it's"])})["tokens"]
    assert answer.numpy().tolist() == [[0, 0, 1, 3], [0, 0, 0, 1], [3, 4, 5, 6]]


def test_words_are_split_as_keras_splits_them() -> None:
    text = 'It\'s "the" (best) film: 10/10 -- a must-see; co-op & all, #1 @home? Yes! a_b ~ `c` {d} x=y <i>z</i>'
    expected = keras.src.legacy.preprocessing.text.text_to_word_sequence(text)
    vocabulary = [word for word, _ in Counter(expected).most_common()]
    ids = steps.Tokenize(vocabulary, 60)({"text": tf.constant([text])})["tokens"].numpy()[0]
    assert [vocabulary[i - steps.FIRST_WORD] for i in ids if i > steps.UNKNOWN] == expected


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)


def decoded(data: bytes, channels: int, height: int | None = None, width: int | None = None) -> np.ndarray:
    image = steps.DecodeImage(channels, height, width)({"image_bytes": tf.constant([data])})["image"]
    assert image.dtype == tf.float32
    return np.asarray(image)[0]


def test_a_colour_image_is_scaled_to_one() -> None:
    np.testing.assert_allclose(decoded(encoded(Image.fromarray(PIXELS)), 3), PIXELS / 255, atol=1e-6)


def test_grey_is_the_weighted_mean_of_the_colours() -> None:
    grey = PIXELS @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(decoded(encoded(Image.fromarray(PIXELS)), 1)[..., 0], grey, atol=1e-6)


def test_a_grey_image_keeps_its_values_and_can_be_colour() -> None:
    data = encoded(Image.fromarray(PIXELS[..., 0]))
    np.testing.assert_allclose(decoded(data, 1)[..., 0], PIXELS[..., 0] / 255, atol=1e-6)
    np.testing.assert_allclose(decoded(data, 3), np.repeat(PIXELS[..., :1], 3, -1) / 255, atol=1e-6)


def test_alpha_is_dropped_and_palettes_are_expanded() -> None:
    alpha = np.concatenate([PIXELS, np.full((12, 10, 1), 7, np.uint8)], -1)
    np.testing.assert_allclose(decoded(encoded(Image.fromarray(alpha)), 3), PIXELS / 255, atol=1e-6)
    palette = Image.fromarray(PIXELS).quantize(16)
    np.testing.assert_allclose(decoded(encoded(palette), 3), np.asarray(palette.convert("RGB")) / 255, atol=1e-6)


def test_a_jpeg_is_decoded() -> None:
    smooth = Image.fromarray(PIXELS).resize((64, 64), Image.Resampling.BICUBIC)
    assert np.abs(decoded(encoded(smooth, "JPEG"), 3) - np.asarray(smooth) / 255).mean() < 0.05


@pytest.mark.parametrize("size", [(28, 28), (5, 4), (12, 20)], ids=["larger", "smaller", "wider"])
def test_another_size_is_resized_as_pillow_does(size: tuple[int, int]) -> None:
    image = decoded(encoded(Image.fromarray(PIXELS)), 3, *size)
    for channel in range(3):
        plane = Image.fromarray((PIXELS[..., channel] / 255).astype(np.float32))
        expected = np.asarray(plane.resize(size[::-1], Image.Resampling.BILINEAR))
        np.testing.assert_allclose(image[..., channel], expected, atol=1e-5)


@pytest.mark.parametrize(
    "data", [b"", b"not an image", encoded(Image.fromarray(PIXELS))[:60]], ids=["no", "text", "cut"]
)
def test_bytes_that_are_no_image_are_refused(data: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoded(data, 3)


def test_noise_follows_its_seed_and_more_rows_keep_the_first() -> None:
    step = steps.NormalNoise(10)

    def drawn(n: int, seed: int) -> np.ndarray:
        return np.asarray(step({"n": tf.constant(n), "seed": tf.constant(seed, tf.int64)})["z"])

    assert drawn(3, 7).shape == (3, 10)
    np.testing.assert_array_equal(drawn(3, 7), drawn(3, 7))
    np.testing.assert_array_equal(drawn(3, 7), drawn(5, 7)[:3])
    assert (drawn(3, 7) != drawn(3, 8)).any()
    assert (drawn(3, -1) != drawn(3, 1)).any()
    many = drawn(256, 0)
    assert abs(many.mean()) < 0.1
    assert abs(many.std() - 1) < 0.1


@pytest.mark.parametrize("n", [0, -1, 257])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_noise_beyond_its_limit_is_refused(n: int, compiled: bool) -> None:
    step = steps.NormalNoise(10)
    call = tf.function(step.__call__) if compiled else step
    with pytest.raises(tf.errors.InvalidArgumentError, match="n must be 1 to 256"):
        call({"n": tf.constant(n), "seed": tf.constant(0, tf.int64)})


def example(**features: list[float] | list[bytes] | list[int]) -> bytes:
    kinds = {float: ("float_list", tf.train.FloatList), bytes: ("bytes_list", tf.train.BytesList)}
    made = {}
    for name, values in features.items():
        field, kind = kinds.get(type(values[0]), ("int64_list", tf.train.Int64List))
        made[name] = tf.train.Feature(**{field: kind(value=values)})
    serialized: bytes = tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()
    return serialized


def test_an_example_gives_its_feature_in_shape() -> None:
    step = steps.ParseExample("x", (2, 1))
    both = tf.constant([example(x=[1.0, 2.0]), example(x=[3.0, 4.0], other=[b"y"])])
    np.testing.assert_array_equal(step({"inputs": both})["x"], [[[1], [2]], [[3], [4]]])
    text = steps.ParseExample("text", (), tf.string)({"inputs": tf.constant([example(text=[b"hm"])])})["text"]
    assert text.numpy().tolist() == [b"hm"]


@pytest.mark.parametrize(
    "serialized",
    [example(y=[1.0, 2.0]), example(x=[b"1", b"2"]), example(x=[1.0]), b"no example"],
    ids=["missing", "another kind", "too few", "no example"],
)
def test_an_example_without_the_feature_is_refused(serialized: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        steps.ParseExample("x", (2,))({"inputs": tf.constant([serialized])})


def test_labels_follow_class_ids_of_any_shape() -> None:
    step = steps.LookupLabel(("cat", "dog"))
    label = step({"class_id": tf.constant([[0, 1], [1, 1]], tf.int64)})["label"]
    assert label.numpy().tolist() == [[b"cat", b"dog"], [b"dog", b"dog"]]


def test_classes_stand_beside_their_scores() -> None:
    scores = tf.constant([[0.1, 0.9], [0.8, 0.2]])
    answer = steps.TopClasses(("cat", "dog"))({"probabilities": scores})
    assert answer["classes"].numpy().tolist() == [[b"cat", b"dog"]] * 2
    np.testing.assert_array_equal(answer["scores"], scores)


def test_a_class_map_becomes_a_grey_png_of_class_ids() -> None:
    ids = np.arange(12).reshape(1, 3, 4)
    png = steps.EncodePng()({"class_map": tf.constant(ids, tf.int64)})["mask_png_bytes"].numpy()[0]
    image = Image.open(io.BytesIO(png))
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), ids[0])


def test_descriptions_are_those_of_the_model_card() -> None:
    assert [
        steps.DecodeImage(1, 28, 28).described,
        steps.Tokenize(WORDS, 80).described,
        steps.ParseExample("image", (28, 28, 1)).described,
        steps.NormalNoise(10).described,
        steps.LookupLabel(("a",)).described,
        steps.TopClasses(("a",)).described,
        steps.NearestWords(WORDS, 3).described,
        steps.EncodePng().described,
    ] == [
        {"op": "decode_image", "input": "image_bytes", "output": "image", "height": 28, "width": 28, "channels": 1},
        {"op": "tokenize", "input": "text", "output": "tokens", "vocabulary": "vocabulary.txt", "max_length": 80},
        {
            "op": "parse_example",
            "input": "inputs",
            "output": "image",
            "feature": "image",
            "dtype": "float32",
            "shape": [28, 28, 1],
        },
        {"op": "normal_noise", "count": "n", "seed": "seed", "output": "z", "dim": 10, "limit": 256},
        {"op": "lookup_label", "input": "class_id", "output": "label", "labels": "labels.txt"},
        {
            "op": "top_classes",
            "input": "probabilities",
            "classes": "classes",
            "scores": "scores",
            "labels": "labels.txt",
        },
        {
            "op": "nearest_words",
            "input": "similarities",
            "neighbours": "neighbours",
            "similarity": "similarity",
            "vocabulary": "vocabulary.txt",
            "count": 3,
        },
        {"op": "encode_png", "input": "class_map", "output": "mask_png_bytes"},
    ]


def test_a_step_works_inside_a_compiled_function() -> None:
    step = steps.Tokenize(WORDS, 8)
    compiled = tf.function(
        lambda text: step({"text": text})["tokens"], input_signature=[tf.TensorSpec([None], tf.string)]
    )
    assert compiled(tf.constant(["the film"])).numpy().tolist() == [tokens("the film")]
