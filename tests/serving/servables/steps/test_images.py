"""The size of an encoded image, read from its head."""

from __future__ import annotations

import functools
import io
import tracemalloc
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ladle.clients.wire.resizing import resize
from ladle.serving.errors import InvalidArgument
from ladle.serving.servables.steps import images
from ladle.serving.servables.steps.images import decode_batch


def encode(width: int, height: int, kind: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, kind, **options)
    return file.getvalue()


def pillow_size(data: bytes) -> tuple[int, int] | None:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            return picture.height, picture.width
    except Exception:
        return None


JPEGS = {
    "usual": encode(50, 37, "JPEG"),
    "progressive": encode(50, 37, "JPEG", progressive=True),
    "grey": encode(50, 37, "JPEG", "L"),
    "four channels": encode(50, 37, "JPEG", "CMYK"),
    "with a profile and a comment": encode(50, 37, "JPEG", icc_profile=b"p" * 70_000, comment=b"\xff\xc0" * 9),
}


@pytest.mark.parametrize("data", JPEGS.values(), ids=JPEGS)
def test_a_jpeg_has_the_size_that_pillow_reads_and_is_not_opened_for_it(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pillow_size(data) == (37, 50)
    monkeypatch.setattr(images.Image, "open", None)
    assert images.read_size(data) == (37, 50)


@given(st.sampled_from(sorted(JPEGS)), st.integers(0, 600), st.binary(min_size=1, max_size=4))
def test_a_damaged_jpeg_has_no_other_size_than_pillow_reads(name: str, at: int, damage: bytes) -> None:
    data = JPEGS[name][:at] + damage + JPEGS[name][at + len(damage) :]
    wanted = pillow_size(data)
    found = images.read_size(data)
    assert found == wanted or wanted is None  # Pillow opens fewer, and decoding refuses those


def test_of_two_frames_in_a_jpeg_the_one_that_pillow_decodes_counts() -> None:
    data = JPEGS["usual"]
    at = data.index(b"\xff\xc0")
    frame = data[at : at + 19]
    large = frame[:5] + b"\x20\x00\x20\x00" + frame[9:]
    assert images.read_size(data[:at] + frame + large + data[at + 19 :]) == pillow_size(
        data[:at] + frame + large + data[at + 19 :]
    )


sides = st.integers(1, 60)


@given(sides, sides, sides, sides, st.sampled_from([1, 3]), st.integers(0, 2**32 - 1))
def test_an_image_is_resized_as_pillow_does(
    height: int, width: int, to_height: int, to_width: int, channels: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    found = resize(image, to_height, to_width, scale=1 / 255)
    assert (found.shape, found.dtype) == ((to_height, to_width, channels), np.float32)
    for channel in range(channels):
        plane = Image.fromarray(image[..., channel].astype(np.float32))
        wanted = np.asarray(plane.resize((to_width, to_height), Image.Resampling.BILINEAR)) / 255
        np.testing.assert_allclose(found[..., channel], wanted, atol=2e-6)


@pytest.mark.parametrize("side", [(1, 2**20), (2**20, 1)], ids=["a row", "a column"])
def test_a_long_side_of_few_bytes_takes_little_memory(side: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*side, 3), np.uint8)
    tracemalloc.start()
    try:
        found = resize(image, 224, 224, scale=1 / 255)
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(found.mean(), image.mean() / 255, atol=1e-3)


@functools.cache
def _jpegs() -> list[tuple[str, bytes]]:
    return list(_new_jpegs())


def _new_jpegs() -> Iterator[tuple[str, bytes]]:
    """JPEGs of every kind that cameras, tools and scanners write."""
    random = np.random.default_rng(0)
    smooth = Image.fromarray(random.integers(0, 256, (9, 11, 3), np.uint8)).resize((83, 61), Image.Resampling.BICUBIC)
    for name, picture in (("colour", smooth), ("grey", smooth.convert("L")), ("cmyk", smooth.convert("CMYK"))):
        for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
            for kind in ({}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 2}):
                file = io.BytesIO()
                picture.save(file, "JPEG", quality=80, subsampling=subsampling, **kind)
                yield f"{name} {subsampling} {kind}", file.getvalue()
    file = io.BytesIO()
    smooth.save(file, "JPEG", keep_rgb=True)
    yield "RGB as it is", file.getvalue()


def test_a_jpeg_has_the_pixels_that_pillow_reads() -> None:
    for name, data in _jpegs():
        with Image.open(io.BytesIO(data)) as picture:
            wanted = np.asarray(picture.convert("RGB"), np.float32) / np.float32(255)
        found = decode_batch(np.array([data], object), "x", 3, None)
        np.testing.assert_array_equal(found[0], wanted, err_msg=name)


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_jpeg_is_read_or_refused_as_pillow_does(draws: st.DataObject) -> None:
    data = bytearray(draws.draw(st.sampled_from(sorted(data for _, data in _jpegs()))))
    for _ in range(draws.draw(st.integers(1, 3))):
        data[draws.draw(st.integers(2, len(data) - 1))] = draws.draw(st.integers(0, 255))
    if draws.draw(st.booleans()):
        del data[draws.draw(st.integers(2, len(data))) :]
    outcomes, channels = [], draws.draw(st.sampled_from([1, 3]))
    for decode in (images._decode_jpeg, lambda *_: None):
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of a picture of many pixels
            patch.setattr(images, "_decode_jpeg", decode)
            try:
                outcomes.append(decode_batch(np.array([bytes(data)], object), "x", channels, None, 2**20).tobytes())
            except InvalidArgument as error:
                outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "L"), ("JPEG", "RGB"), *(("PNG", mode) for mode in ("L", "RGB", "LA", "P", "1"))]
)
def test_grey_values_are_those_of_the_signatures_arithmetic_to_the_last_bit(kind: str, mode: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).convert(mode).save(file, kind)
    pixels = np.asarray(Image.open(file).convert("RGB")).astype(np.float32) / np.float32(255)
    weighted = pixels * np.array([0.299, 0.587, 0.114], np.float32)
    wanted = (weighted[..., 0] + weighted[..., 1]) + weighted[..., 2]
    [grey] = decode_batch(np.array([file.getvalue()], object), "image", 1, None)
    assert grey.tobytes() == wanted.tobytes()


def test_many_large_images_are_decoded_as_each_by_itself_and_the_first_that_is_none_is_named() -> None:
    random = np.random.default_rng(0)
    encoded = np.empty(8, object)
    for i in range(8):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (400 + 9 * i, 500, 3)).astype(np.uint8)).save(file, "JPEG")
        encoded[i] = file.getvalue()
    found = decode_batch(encoded, "photo", 3, (64, 64))
    for i in range(8):
        np.testing.assert_array_equal(found[i : i + 1], decode_batch(encoded[i : i + 1], "photo", 3, (64, 64)))
    encoded[3] = encoded[5] = encoded[3][:700]
    with pytest.raises(InvalidArgument, match=r"image 3 .* is not a readable"):
        decode_batch(encoded, "photo", 3, (64, 64))
