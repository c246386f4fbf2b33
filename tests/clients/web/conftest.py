"""The gateway in front of the small model server of these tests, with a repository that holds cards and samples."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from ladle.clients.web import Config, create_app

SHAPES = {
    "serving_default": {"inputs": {"image": {"dtype": "float32", "shape": [None, 4, 4, 1]}}, "outputs": {}},
}
CARDS: dict[str, dict[str, Any]] = {
    "lenet5": {
        "task": "classify",
        "description": "Three brightnesses.",
        "labels": ["boot", "coat", "shirt"],
        "data": {"name": "fashion_mnist", "synthetic": False},
        "metrics": {"test": {"loss": 0.3, "accuracy": 0.9}},
        "signatures": {**SHAPES, "serving_bytes": {"inputs": {}, "outputs": {"probabilities": {}, "class_id": {}}}},
    },
    "unet": {
        "task": "segment",
        "labels": ["background", "nucleus"],
        "data": {"name": "synthetic_blobs", "synthetic": True},
        "signatures": {"serving_bytes": {"inputs": {}, "outputs": {"class_map": {}}}},
    },
    "vae": {
        "task": "reconstruct",
        "signatures": {
            **SHAPES,
            "reconstruct_bytes": {"inputs": {}, "outputs": {"reconstruction": {}}},
            "generate": {"inputs": {}, "outputs": {"images": {}}},
        },
    },
    "sentiment_lstm": {"task": "sentiment", "signatures": {"text": {"inputs": {}, "outputs": {"probability": {}}}}},
}
BRIGHTNESSES = {"boot": 30, "coat": 128, "shirt": 240}


def encoded(brightness: int, format: str = "PNG", size: tuple[int, int] = (4, 4)) -> bytes:
    """A picture of one brightness; the model server's classes are thirds of it."""
    file = io.BytesIO()
    Image.new("RGB", size, (brightness,) * 3).save(file, format)
    return file.getvalue()


def make_repository(home: Path) -> Path:
    """Four models with cards; lenet5 has samples and a report, unet a sample with its mask, sentiment_lstm a text."""
    for name, card in CARDS.items():
        extra = home / name / "3" / "assets.extra"
        (extra / "samples").mkdir(parents=True)
        (extra / "card.json").write_text(json.dumps(card))
    samples = home / "lenet5" / "3" / "assets.extra" / "samples"
    for label, brightness in BRIGHTNESSES.items():
        (samples / f"{label}.png").write_bytes(encoded(brightness))
    (samples / "samples.json").write_text(
        json.dumps([{"file": f"{label}.png", "label": label} for label in BRIGHTNESSES])
    )
    (samples / "secret.txt").write_text("not a sample")
    texts = home / "sentiment_lstm" / "3" / "assets.extra" / "samples" / "samples.json"
    texts.write_text(json.dumps([{"text": "a good film", "label": "positive"}]))
    report = home / "lenet5" / "3" / "assets.extra" / "report"
    report.mkdir()
    (report / "curves.png").write_bytes(encoded(99))
    (report / "notes.png").write_bytes(encoded(98))
    half = np.zeros((8, 8), np.uint8)
    half[:, 4:] = 1
    samples = home / "unet" / "3" / "assets.extra" / "samples"
    Image.fromarray(half * 255).save(samples / "0.png")
    Image.fromarray(half).save(samples / "0_mask.png")
    (samples / "samples.json").write_text(json.dumps([{"file": "0.png", "mask": "0_mask.png"}]))
    return home


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "models")


@pytest.fixture(scope="module")
def module_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("gateway") / "models")


@pytest.fixture
def config(server: Any, repository: Path) -> Config:
    return Config(
        server=f"grpc://{server.grpc}",
        repository=repository,
        timeout_s=10,
        max_body_bytes=200_000,
        max_pixels=10_000,
        max_side=64,
        max_images=8,
        max_characters=100,
    )


@pytest.fixture
def web(config: Config) -> FlaskClient:
    """A client of the gateway."""
    return create_app(config).test_client()


def picture(answer: bytes) -> np.ndarray[Any, Any]:
    """The pixels of a PNG."""
    return np.asarray(Image.open(io.BytesIO(answer)))
