"""Writes samples: a few real test inputs with their true answers, to try a model with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

FOLDER = "assets.extra/samples"
LIMIT = 8
"""Most samples that are written."""


@dataclass(frozen=True)
class Samples:
    """Raw inputs and their true answers. Inputs are images, texts or rows.

    images   uint8 [n, h, w, c], c is 1 or 3
    texts    raw text
    rows     float32 [n, columns]
    values   true value of each row, float32 [n], or None
    columns  name of each column, or empty
    labels   true class of each input, or empty
    masks    true class ids, uint8 [n, h, w], or None
    """

    images: np.ndarray | None = None
    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    masks: np.ndarray | None = None
    rows: np.ndarray | None = None
    values: np.ndarray | None = None
    columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next((given for given in (self.images, self.rows) if given is not None), self.texts))


def write_samples(folder: Path, samples: Samples) -> list[dict[str, Any]]:
    """Write the first LIMIT samples as PNG files and `samples.json`; return the entries of that file.

    An entry is {"file": "0.png", "label": "Sneaker"}, {"text": "...", "label": "positive"},
    {"file": "0.png", "mask": "0_mask.png"} or {"x": [0.1, 18.0], "y": 24.0, "columns": ["CRIM", "ZN"]}. The pixel
    values of a mask are class ids.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    for i in range(min(len(samples), LIMIT)):
        entry: dict[str, Any] = {}
        if samples.images is not None:
            entry["file"] = f"{i}.png"
            (folder / entry["file"]).write_bytes(png(samples.images[i]))
        elif samples.rows is not None:
            entry["x"] = _numbers(samples.rows[i])
            if samples.values is not None:
                entry["y"] = _numbers(samples.values[i])
            if samples.columns:
                entry["columns"] = list(samples.columns)
        else:
            entry["text"] = samples.texts[i]
        if samples.labels:
            entry["label"] = samples.labels[i]
        if samples.masks is not None:
            entry["mask"] = f"{i}_mask.png"
            (folder / entry["mask"]).write_bytes(png(samples.masks[i][..., np.newaxis]))
        entries.append(entry)
    (folder / "samples.json").write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return entries


def _numbers(array: np.ndarray) -> Any:
    """Python numbers with the digits of float32: 0.1, not 0.10000000149."""
    return np.asarray(array, np.float32).astype(str).astype(float).tolist()


def png(image: np.ndarray) -> bytes:
    """Encode an image, uint8 [h, w, c], as PNG."""
    encoded: bytes = tf.io.encode_png(np.ascontiguousarray(image)).numpy()
    return encoded
