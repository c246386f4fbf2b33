"""The verbs that ask a server: each prints its answer as text or JSON, and raises LadleError, OSError or ValueError."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from clients import arrays, cards, inline, pictures, terminal
from clients.arrays import print_json, which
from clients.client import Client
from clients.results import Classification


def classify(client: Client, given: argparse.Namespace) -> None:
    """The likeliest classes of each image."""
    version = which(given)
    found: list[tuple[Path, Classification]] = []
    with terminal.Progress("classifying", len(given.images)) as progress:
        for path in given.images:
            found.append((path, client.classify(given.name, path, **version)))
            progress.at(len(found), path.name)
    if given.json:
        print_json(
            [
                {
                    "image": str(path),
                    "label": answer.label,
                    "class_id": answer.class_id,
                    "probability": answer.probability,
                    "top": [{"label": label, "probability": p} for label, p in answer.top(given.top)],
                }
                for path, answer in found
            ]
        )
        return
    for path, answer in found:
        if given.inline is not False:
            inline.show(_open(path), given.inline)
        print(f"{terminal.paint(path.name, 'dim')}  {terminal.paint(answer.label, 'bold')}")
        print(terminal.bars(answer.top(given.top)))


def sentiment(client: Client, given: argparse.Namespace) -> None:
    """The mood of each text."""
    texts = _lines(given.texts)
    answers = client.sentiment_many(texts, given.name, **which(given))
    if given.json:
        print_json(
            [
                {"text": text, "label": a.label, "probability": a.probability, "positive": a.positive}
                for text, a in zip(texts, answers, strict=True)
            ]
        )
        return
    for text, answer in zip(texts, answers, strict=True):
        style = "green" if answer.positive >= 0.5 else "red"
        shown = text if len(text) <= 60 else text[:59] + "…"
        drawn = terminal.paint(terminal.bar(answer.probability, 12), style)
        print(f"{terminal.plain(answer.label):<8}  {drawn}  {answer.probability:6.1%}  {shown}")


def generate(client: Client, given: argparse.Namespace) -> None:
    """New images, as one picture."""
    start = time.perf_counter()
    images = client.generate(given.name, given.n, given.seed, **which(given))
    took_ms = 1000 * (time.perf_counter() - start)
    count, height, width, channels = images.shape
    facts = {"n": count, "seed": given.seed, "height": height, "width": width, "channels": channels}
    _deliver(pictures.grid(images), given.output or Path(f"{given.name}.png"), facts, took_ms, given)


def segment(client: Client, given: argparse.Namespace) -> None:
    """The class of each pixel, laid over the image."""
    original = _open(given.image)
    start = time.perf_counter()
    answer = client.segment(given.name, given.image, **which(given))
    took_ms = 1000 * (time.perf_counter() - start)
    labels = cards.labels(given.repository, given.name, given.version)
    if given.mask:
        pictures.mask(answer.class_map).save(given.mask, "PNG")
    facts = {
        "height": answer.class_map.shape[0],
        "width": answer.class_map.shape[1],
        "classes": {str(class_id): share for class_id, share in answer.shares.items()},
        "labels": {str(class_id): _label(labels, class_id) for class_id in answer.shares},
        "mask": str(given.mask) if given.mask else None,
    }
    output = given.output or given.image.with_name(f"{given.image.stem}-mask.png")
    _deliver(pictures.overlay(original, answer.class_map, given.opacity), output, facts, took_ms, given)
    if not given.json:
        largest = sorted(answer.shares.items(), key=lambda entry: -entry[1])
        print(terminal.bars([(_label(labels, class_id), share) for class_id, share in largest]))
        if given.mask:
            print(f"wrote {given.mask}")


def reconstruct(client: Client, given: argparse.Namespace) -> None:
    """An auto-encoder's copy of an image, beside the image."""
    original = _open(given.image)
    start = time.perf_counter()
    copy = client.reconstruct(given.name, given.image, **which(given))
    took_ms = 1000 * (time.perf_counter() - start)
    height, width, channels = copy.shape
    mode = "L" if channels == 1 else "RGB"
    given_pixels = np.asarray(original.convert(mode).resize((width, height)), np.float32).reshape(copy.shape) / 255
    facts = {"height": height, "width": width, "mean_error": float(np.mean(np.abs(given_pixels - copy)))}
    output = given.output or given.image.with_name(f"{given.image.stem}-{given.name}.png")
    _deliver(pictures.grid(np.stack([given_pixels, copy]), columns=2), output, facts, took_ms, given)


def interpolate(client: Client, given: argparse.Namespace) -> None:
    """The images between two, as one row."""
    start = time.perf_counter()
    images = client.interpolate(given.name, given.first, given.second, given.steps, **which(given))
    took_ms = 1000 * (time.perf_counter() - start)
    count, height, width, channels = images.shape
    facts = {"steps": count, "height": height, "width": width, "channels": channels}
    output = given.output or Path(f"{given.name}-interpolation.png")
    _deliver(pictures.grid(images, columns=count), output, facts, took_ms, given)


def decode(client: Client, given: argparse.Namespace) -> None:
    """The image of a code, or the images of several."""
    code = arrays.read_npy(given.code) if isinstance(given.code, Path) else np.array(given.code)
    start = time.perf_counter()
    images = client.decode(given.name, code, **which(given))
    took_ms = 1000 * (time.perf_counter() - start)
    images = images if images.ndim == 4 else images[None]
    facts = {"n": len(images), "height": images.shape[1], "width": images.shape[2], "channels": images.shape[3]}
    _deliver(pictures.grid(images), given.output or Path(f"{given.name}-decoded.png"), facts, took_ms, given)


def regress(client: Client, given: argparse.Namespace) -> None:
    """A number for each row."""
    lengths = sorted({len(row) for row in given.rows})
    if len(lengths) != 1:
        raise ValueError(f"the rows have {' and '.join(map(str, lengths))} features; wanted as many in each")
    rows = np.array(given.rows, np.float32)
    answers = np.asarray(client.regress(given.name, rows, **which(given)), np.float64).reshape(len(rows), -1)
    if given.json:
        print_json([{"x": row, "y": y.tolist()} for row, y in zip(given.rows, answers, strict=True)])
        return
    for row, y in zip(given.rows, answers, strict=True):
        print(f"{','.join(f'{value:g}' for value in row)}  {' '.join(f'{value:.6g}' for value in y)}")


def _label(labels: list[str], class_id: int) -> str:
    return labels[class_id] if class_id < len(labels) else f"class {class_id}"


def _lines(texts: list[str]) -> list[str]:
    """The texts; `-` stands for the lines of stdin that are not blank."""
    found: list[str] = []
    for text in texts:
        found += [line.strip() for line in sys.stdin if line.strip()] if text == "-" else [text]
    if not found:
        raise ValueError("stdin held no text; wanted one a line")
    return found


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture that can be read; wanted PNG or JPEG") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: {error}") from None


def _deliver(
    picture: Image.Image, output: Path, facts: dict[str, Any], took_ms: float, given: argparse.Namespace
) -> None:
    """Write the picture, show it where the terminal can, and say what it is."""
    picture.save(output, "PNG")
    if given.json:
        print_json({**facts, "output": str(output), "latency_ms": took_ms})
        return
    inline.show(picture, given.inline)
    print(f"wrote {output}  {terminal.paint(f'{took_ms:.1f} ms', 'dim')}")
