"""The size of an encoded image, read from its head."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ladle.clients.wire.resizing import resize
from ladle.serving.servables.steps import images


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
