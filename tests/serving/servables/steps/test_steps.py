"""The NumPy steps and those in TensorFlow give the same answers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ladle.clients.wire import messages as pb
from ladle.models import _steps
from ladle.serving.errors import FailedPrecondition, InvalidArgument
from ladle.serving.servables.steps import steps

tf = pytest.importorskip("tensorflow")


def strings(*values: bytes) -> np.ndarray[Any, Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def both(twin: Any, assets: Path, **inputs: np.ndarray[Any, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What TensorFlow and NumPy add, by name."""
    wanted = twin({name: tf.constant(array) for name, array in inputs.items()})
    step = steps.build(twin.described, assets)
    assert set(step.reads) == set(inputs)
    assert set(step.adds) == set(wanted)
    tensors = dict(inputs)
    step.run(tensors)
    return {name: value.numpy() for name, value in wanted.items()}, {name: tensors[name] for name in wanted}


def image(mode: str, size: tuple[int, int], format: str = "PNG", seed: int = 0) -> bytes:
    """A smooth picture with some noise, of a mode that Pillow can write."""
    width, height = size
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 2, height))
    bands = [127 + 100 * np.sin(x * k + y) + rng.integers(-20, 20, (height, width)) for k in (1, 2, 3, 4)]
    pixels = np.clip(np.stack(bands, axis=-1), 0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels[..., :3])
    if mode == "RGBA":
        picture = Image.fromarray(pixels)
    elif mode == "I;16":
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode == "LA":
        picture = Image.fromarray(pixels).convert("LA")
    else:
        picture = picture.convert(mode)
    file = io.BytesIO()
    picture.save(file, format)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_png_images_decode_alike(mode: str, channels: int, tmp_path: Path) -> None:
    twin = _steps.DecodeImage(channels)
    wanted, found = both(twin, tmp_path, image_bytes=strings(image(mode, (31, 17)), image(mode, (31, 17), seed=1)))
    assert found["image"].shape == (2, 17, 31, channels)
    np.testing.assert_allclose(found["image"], wanted["image"], atol=1e-6)


@pytest.mark.parametrize("size", [(28, 28), (64, 48), (13, 90), (300, 200)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_resize_alike(size: tuple[int, int], channels: int, tmp_path: Path) -> None:
    twin = _steps.DecodeImage(channels, 28, 32)
    wanted, found = both(twin, tmp_path, image_bytes=strings(image("RGB", size)))
    assert found["image"].dtype == np.float32
    np.testing.assert_allclose(found["image"], wanted["image"], atol=2e-6)


def test_jpeg_images_decode_nearly_alike(tmp_path: Path) -> None:
    wanted, found = both(_steps.DecodeImage(3), tmp_path, image_bytes=strings(image("RGB", (64, 48), "JPEG")))
    # The two decoders round differently.
    assert np.abs(found["image"] - wanted["image"]).max() <= 8 / 255
    assert np.abs(found["image"] - wanted["image"]).mean() <= 1 / 255


def test_images_that_cannot_be_decoded_are_named(tmp_path: Path) -> None:
    step = steps.build(_steps.DecodeImage(1).described, tmp_path)
    good = image("L", (4, 4))
    for bad, message in (
        (strings(good, b""), r'input "image_bytes", image 1 \(0 bytes\) is not a readable PNG or JPEG image'),
        (strings(good[:40]), "is not a readable PNG or JPEG"),
        (strings(image("RGB", (4, 4), "GIF")), "is not a readable PNG or JPEG"),
        (strings(good, image("L", (5, 4))), "images of 4×4 and of 4×5 pixels"),
        (np.array([[good]], object), r"has shape \[1, 1\]; expected \[batch\]"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            step.run({"image_bytes": bad})


WORDS = ("the", "film", "was", "don't", "great", "é", "br")
TEXTS = [
    b"The FILM was great!",
    b"",
    b"   ",
    b"don't<br />great<br /><BR />film",
    "caf\u00e9 \u00e9 \u00c9 film".encode(),
    b"tabs\tand\nlines\rwas-great (film) [the] {was} \\great/ ^_^ `film` ~the~ a|b \x0b\x0c the",
    b"\xff\xfe was great",
    b"the " * 200,
    b"the<br/>film",
]


def test_text_becomes_the_same_tokens(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.txt").write_text("".join(f"{word}\n" for word in WORDS))
    wanted, found = both(_steps.Tokenize(WORDS, 12), tmp_path, text=strings(*TEXTS))
    assert found["tokens"].dtype == np.int32
    assert found["tokens"].tolist() == wanted["tokens"].tolist()


def test_nearest_words_are_the_same_and_of_equals_the_more_frequent_comes_first(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.txt").write_text("".join(f"{word}\n" for word in WORDS))
    similarities = np.random.default_rng(0).uniform(-1, 1, (3, len(WORDS))).astype(np.float32)
    similarities[1] = 0.5
    for count in (4, 100):
        wanted, found = both(_steps.NearestWords(WORDS, count), tmp_path, similarities=similarities)
        assert found["neighbours"].shape == (3, min(count, len(WORDS)))
        assert found["neighbours"].tolist() == wanted["neighbours"].tolist()
        assert found["similarity"].tolist() == wanted["similarity"].tolist()
    assert found["neighbours"][1].tolist() == [word.encode() for word in WORDS]


@pytest.mark.parametrize("seed", [0, 1, -1, 42, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("n", [1, 7, 256])
def test_noise_of_a_seed_is_the_same(seed: int, n: int, tmp_path: Path) -> None:
    wanted, found = both(_steps.NormalNoise(10), tmp_path, n=np.array(n, np.int32), seed=np.array(seed))
    assert found["z"].dtype == np.float32
    np.testing.assert_allclose(found["z"], wanted["z"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("n", [0, -1, 257])
def test_noise_for_too_many_or_no_rows_is_refused(n: int, tmp_path: Path) -> None:
    step = steps.build(_steps.NormalNoise(10).described, tmp_path)
    with pytest.raises(InvalidArgument, match=f'input "n" is {n}; expected 1 to 256'):
        step.run({"n": np.array(n, np.int32), "seed": np.array(0)})


def example(**features: Any) -> bytes:
    made = pb.Example()
    for name, values in features.items():
        kind = {float: "float_list", int: "int64_list", bytes: "bytes_list"}[type(values[0])]
        getattr(made.features.feature[name], kind).value.extend(values)
    data: bytes = made.SerializeToString()
    return data


@pytest.mark.parametrize(
    ("dtype", "shape", "values"),
    [("float32", [2, 2], [1.0, 2.0, 3.0, 4.5]), ("int64", [2], [3, -4]), ("string", [], [b"\xff text"])],
    ids=["float", "int64", "string"],
)
def test_examples_parse_alike(dtype: str, shape: list[int], values: list[Any], tmp_path: Path) -> None:
    twin = _steps.ParseExample("x", shape, tf.as_dtype(dtype))
    serialized = strings(example(x=values, other=[1]), example(x=values[::-1]))
    wanted, found = both(twin, tmp_path, inputs=serialized)
    assert found["x"].dtype == wanted["x"].dtype
    assert found["x"].tolist() == wanted["x"].tolist()


@pytest.mark.parametrize(
    "serialized", [example(y=[1.0]), example(x=[1]), example(x=[1.0]), b"\x07"], ids=["missing", "kind", "count", "no"]
)
def test_examples_that_do_not_fit_are_refused_by_both(serialized: bytes, tmp_path: Path) -> None:
    twin = _steps.ParseExample("x", [2])
    with pytest.raises(tf.errors.InvalidArgumentError):
        twin({"inputs": tf.constant([serialized])})
    with pytest.raises(InvalidArgument):
        steps.build(twin.described, tmp_path).run({"inputs": strings(serialized)})


@pytest.mark.parametrize(
    ("dtype", "shape", "default"),
    [("float32", [2], 0.5), ("float32", [2], [1.5, -2.0]), ("int64", [], 7), ("string", [1], "é")],
    ids=["one for all", "each", "scalar", "string"],
)
def test_defaults_fill_missing_features_alike(dtype: str, shape: list[int], default: Any, tmp_path: Path) -> None:
    kind = {"float32": [4.0, 5.0], "int64": [4], "string": [b"s"]}[dtype]
    twin = _steps.ParseExample("x", shape, tf.as_dtype(dtype), default=default)
    serialized = strings(example(), example(y=[1]), example(x=kind))
    wanted, found = both(twin, tmp_path, inputs=serialized)
    assert found["x"].tolist() == wanted["x"].tolist()


VALUES = st.one_of(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=3),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3),
    st.lists(st.binary(max_size=4), min_size=1, max_size=3),
)
FEATURES = st.dictionaries(st.sampled_from(["x", "y", ""]), VALUES)
_TWINS: dict[Any, Any] = {}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    context=FEATURES,
    features=FEATURES,
    wanted=st.sampled_from([("float32", 2, None), ("int64", 1, None), ("string", 1, None), ("float32", 1, 3.0)]),
)
def test_context_and_examples_of_all_kinds_parse_alike(
    context: dict[str, Any], features: dict[str, Any], wanted: Any
) -> None:
    dtype, count, default = wanted
    twin = _steps.ParseExample("x", [count], tf.as_dtype(dtype), default=default)
    traced = _TWINS.setdefault(wanted, tf.function(twin.__call__, autograph=False))
    inputs = {"inputs": strings(example(**context) + example(**features))}
    numpy = dict(inputs)
    try:
        there = traced({"inputs": tf.constant(inputs["inputs"])})["x"].numpy()
    except tf.errors.InvalidArgumentError:
        with pytest.raises(InvalidArgument):
            steps.build(twin.described, Path()).run(numpy)
    else:
        steps.build(twin.described, Path()).run(numpy)
        assert numpy["x"].tolist() == there.tolist()


def test_labels_are_looked_up_alike(tmp_path: Path) -> None:
    labels = ("T-shirt/top", "Été", "boot")
    (tmp_path / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    wanted, found = both(_steps.LookupLabel(labels), tmp_path, class_id=np.array([[2, 0], [1, 1]]))
    assert found["label"].tolist() == wanted["label"].tolist()
    probabilities = np.array([[0.2, 0.5, 0.3], [1, 0, 0]], np.float32)
    wanted, found = both(_steps.TopClasses(labels), tmp_path, probabilities=probabilities)
    assert found["classes"].tolist() == wanted["classes"].tolist()
    assert found["scores"].tolist() == wanted["scores"].tolist()


def test_masks_hold_the_same_pixels(tmp_path: Path) -> None:
    class_map = np.random.default_rng(0).integers(0, 21, (2, 5, 9))
    wanted, found = both(_steps.EncodePng(), tmp_path, class_map=class_map)
    for i in range(2):
        for encoded in (wanted["mask_png_bytes"][i], found["mask_png_bytes"][i]):
            picture = Image.open(io.BytesIO(encoded))
            assert picture.mode == "L"
            assert np.asarray(picture).tolist() == class_map[i].tolist()


def test_an_unknown_or_incomplete_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="the step 'crop'; expected one of decode_image, encode_png"):
        steps.build({"op": "crop"}, tmp_path)
    with pytest.raises(FailedPrecondition, match="describes the step 'lookup_label' incompletely"):
        steps.build({"op": "lookup_label", "input": "a", "output": "b", "labels": "labels.txt"}, tmp_path)
