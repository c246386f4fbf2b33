"""Samples that travel with a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from ladle.training.store.samples import Samples, write_samples


def read(path: Path) -> np.ndarray:
    return tf.io.decode_png(path.read_bytes()).numpy()


def test_images_and_masks_are_written_as_they_are(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, 6, 5, 3), dtype=np.uint8)
    masks = random.integers(0, 3, (2, 6, 5), dtype=np.uint8)
    entries = write_samples(tmp_path / "samples", Samples(images=images, masks=masks))
    assert entries == [{"file": "0.png", "mask": "0_mask.png"}, {"file": "1.png", "mask": "1_mask.png"}]
    for n in range(2):
        np.testing.assert_array_equal(read(tmp_path / "samples" / f"{n}.png"), images[n])
        np.testing.assert_array_equal(read(tmp_path / "samples" / f"{n}_mask.png")[..., 0], masks[n])


def test_texts_keep_their_letters(tmp_path: Path) -> None:
    write_samples(tmp_path, Samples(texts=("Größe & Maß",), labels=("positive",)))
    told = json.loads((tmp_path / "samples.json").read_text(encoding="utf-8"))
    assert told == [{"text": "Größe & Maß", "label": "positive"}]


def test_there_are_eight_at_most_and_none_is_fine(tmp_path: Path) -> None:
    many = Samples(images=np.zeros((20, 2, 2, 1), np.uint8))
    assert len(write_samples(tmp_path / "many", many)) == 8
    assert write_samples(tmp_path / "none", Samples()) == []


def test_rows_of_a_table_are_told_with_their_value_and_the_columns_names(tmp_path: Path) -> None:
    rows, values = np.array([[0.1, 18], [2, 0]], np.float32), np.array([24.1, 9], np.float32)
    entries = write_samples(tmp_path, Samples(rows=rows, values=values, columns=("CRIM", "ZN")))
    assert entries[0] == {"x": [0.1, 18.0], "y": 24.1, "columns": ["CRIM", "ZN"]}
    assert json.loads((tmp_path / "samples.json").read_text())[1]["x"] == [2.0, 0.0]
