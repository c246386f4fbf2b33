"""What decides the time of a call counts: pixels in place of bytes, images in place of their number, rows of text."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladle.serving.servables.latency import Latency
from ladle.serving.servables.steps.elements import counter
from ladle.serving.servables.steps.steps import build


def image(side: int, kind: str = "PNG", mode: str = "1") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, kind)
    return file.getvalue()


def strings(*values: bytes) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.fixture
def decode() -> Latency:
    step = {"op": "decode_image", "input": "x", "output": "y", "channels": 1, "height": 28, "width": 28}
    return Latency(counter([build(step, Path())]))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_small_file_with_many_pixels_is_not_quick_because_small_images_are(decode: Latency, kind: str) -> None:
    usual, bomb = image(28, kind, "L"), image(4096, kind, "L" if kind == "JPEG" else "1")
    padded = usual + bytes(max(0, len(bomb) - len(usual)))
    assert len(padded) >= len(bomb)
    for _ in range(200):
        decode.record(decode.size_of({"x": strings(padded)}), 1e-5)
    assert decode.is_quick(decode.size_of({"x": strings(padded)}))
    assert not decode.is_quick(decode.size_of({"x": strings(bomb)}))


def test_what_is_no_image_counts_by_its_bytes(decode: Latency) -> None:
    assert decode.size_of({"x": strings(b"no image", image(2)[:20])}) == 28


def test_generated_images_count_and_their_seed_does_not() -> None:
    step = {"op": "normal_noise", "count": "n", "seed": "s", "output": "z", "dim": 8, "limit": 1000}
    count = counter([build(step, Path())])
    assert [count({"n": np.array(n), "s": np.array(2**40)}) for n in (1, 64, 1000)] == [1, 64, 1000]


def test_empty_texts_count_as_rows(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.txt").write_text("the\n")
    step = {"op": "tokenize", "input": "x", "output": "y", "max_length": 80, "vocabulary": "vocabulary.txt"}
    count = counter([build(step, tmp_path)])
    assert count({"x": strings(*[b""] * 1000)}) > 100 * count({"x": strings(b"the")})
