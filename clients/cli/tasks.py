"""The verbs for tasks. Each prints its answer as text or JSON, and raises LadleError, OSError or ValueError."""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ladle.clients.cli.options import version_of
from ladle.clients.cli.predict import read_npy, write_array
from ladle.clients.drawing import contours, inline, pictures, terminal
from ladle.clients.errors import InvalidArgument
from ladle.clients.json_output import print_json
from ladle.clients.library import cards, images
from ladle.clients.library.client import Client
from ladle.clients.library.results import Classification
from ladle.clients.wire.arrays import Array


def classify(client: Client, given: argparse.Namespace) -> None:
    """Print the most probable classes of each image."""
    version = version_of(given)
    found: list[tuple[Path, Path | bytes, Classification]] = []
    with terminal.Progress("classifying", len(given.images)) as progress:
        for path in given.images:
            image = _read(path)
            found.append((path, image, client.classify(given.name, image, **version)))
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
                for path, _, answer in found
            ]
        )
        return
    for path, image, answer in found:
        if given.inline is not False:
            inline.show(_open(image), given.inline)
        print(f"{terminal.paint(path.name, 'dim')}  {terminal.paint(answer.label, 'bold')}")
        print(terminal.bars(answer.top(given.top)))


def sentiment(client: Client, given: argparse.Namespace) -> None:
    """Print whether each text is positive or negative."""
    texts = _texts(given)
    answers = client.sentiment_many(given.name, texts, **version_of(given))
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


def neighbours(client: Client, given: argparse.Namespace) -> None:
    """Print the words nearest to each word, with the cosine of their vectors."""
    found = [(word, client.neighbours(given.name, word, given.n, **version_of(given))) for word in given.words]
    if given.json:
        print_json(
            [
                {"word": word, "neighbours": [{"word": each, "similarity": cosine} for each, cosine in near]}
                for word, near in found
            ]
        )
        return
    for word, near in found:
        print(terminal.paint(terminal.plain(word), "bold"))
        for each, cosine in near:
            print(f"{terminal.plain(each):>16}  {terminal.bar(max(cosine, 0.0))}  {cosine:6.3f}")


def generate(client: Client, given: argparse.Namespace) -> None:
    """Write new images as one picture."""
    start = time.perf_counter()
    images = client.generate(given.name, given.n, given.seed, **version_of(given))
    took_ms = 1000 * (time.perf_counter() - start)
    count, height, width, channels = images.shape
    facts = {"n": count, "seed": given.seed, "height": height, "width": width, "channels": channels}
    _deliver(pictures.grid(images), given.output or Path(f"{given.name}.png"), facts, took_ms, given)


def segment(client: Client, given: argparse.Namespace) -> None:
    """Write a picture of the image under the classes of its pixels."""
    image = _read(given.image)
    original = _open(image)
    start = time.perf_counter()
    answer = client.segment(given.name, image, **version_of(given))
    took_ms = 1000 * (time.perf_counter() - start)
    labels = cards.labels(given.repository, given.name, given.version)
    if given.mask:
        pictures.mask(answer.class_map).save(given.mask)
    facts = {
        "height": answer.class_map.shape[0],
        "width": answer.class_map.shape[1],
        "classes": {str(class_id): share for class_id, share in answer.shares.items()},
        "labels": {str(class_id): _label(labels, class_id) for class_id in answer.shares},
        "mask": str(given.mask) if given.mask else None,
    }
    output = given.output or Path(f"{_stem(given.image)}-mask.png")
    _deliver(pictures.overlay(original, answer.class_map, given.opacity), output, facts, took_ms, given)
    if not given.json:
        largest = sorted(answer.shares.items(), key=lambda entry: -entry[1])
        print(terminal.bars([(_label(labels, class_id), share) for class_id, share in largest]))
        if given.mask:
            print(f"wrote {given.mask}")


def reconstruct(client: Client, given: argparse.Namespace) -> None:
    """Write a picture of an image beside an auto-encoder's copy; with noise or dropout, of image, input and copy."""
    declared = client.metadata(given.name, **version_of(given)).signature("serving_default")
    if "reconstruction" not in declared.outputs:
        raise InvalidArgument(f"{given.name}: got the outputs {', '.join(declared.outputs)}; expected a reconstruction")
    # The error is against the image as the network gets it, so it is resized here as the server would.
    info = next(iter(declared.inputs.values()))
    image = _read(given.image)
    original = images.pixels(image, info, given.name)  # [h, w, c]
    noisy = corrupted(original, given.noise, given.dropout, given.seed) if given.noise or given.dropout else None
    start = time.perf_counter()
    copy = client.reconstruct(given.name, image if noisy is None else noisy, **version_of(given))
    took_ms = 1000 * (time.perf_counter() - start)
    facts: dict[str, Any] = {"height": copy.shape[0], "width": copy.shape[1], "mean_error": _error(original, copy)}
    shown = [original, copy]
    if noisy is not None:
        facts |= {"noise": given.noise, "dropout": given.dropout, "seed": given.seed}
        facts["mean_error_before"] = _error(original, noisy)
        shown.insert(1, noisy)
    output = given.output or Path(f"{_stem(given.image)}-{given.name}.png")
    _deliver(pictures.grid(np.stack(shown), columns=len(shown)), output, facts, took_ms, given)
    if given.json:
        return
    if noisy is None:
        print(f"image, copy; mean error {facts['mean_error']:.3f} (1: from black to white)")
    else:
        before, after = facts["mean_error_before"], facts["mean_error"]
        print(f"image, input, copy; mean error {before:.3f} before, {after:.3f} after (1: from black to white)")


def filtered(client: Client, given: argparse.Namespace) -> None:
    """Write a picture of an image beside what each filter makes of it."""
    declared = client.metadata(given.name, **version_of(given)).signature("serving_default")
    image = _read(given.image)
    start = time.perf_counter()
    found = client.filter(given.name, image, **version_of(given))
    took_ms = 1000 * (time.perf_counter() - start)
    original = images.pixels(image, next(iter(declared.inputs.values())), given.name)  # as the filters see it
    shown = [original, *found.values()]
    facts = {"height": original.shape[0], "width": original.shape[1], "filtered": list(found)}
    output = given.output or Path(f"{_stem(given.image)}-{given.name}.png")
    _deliver(pictures.grid(np.stack(shown), columns=len(shown)), output, facts, took_ms, given)
    if not given.json:
        print(f"image, {', '.join(found)}")


def corrupted(image: Array, noise: float, dropout: float, seed: int) -> Array:
    """The image with normal noise, clipped, and a share of its pixels black: float32 [h, w, c] in [0, 1].

    Denoising and dropout auto-encoders are trained on such inputs.
    """
    random = np.random.default_rng(seed)
    noisy = np.clip(image + random.normal(0, noise, image.shape), 0, 1) if noise else image
    kept = random.random(image.shape) >= dropout  # drawn even at 0: --noise alone does not depend on --dropout
    return np.where(kept, noisy, 0).astype(np.float32)


def _error(image: Array, other: Array) -> float:
    return float(np.mean(np.abs(image - other)))


def interpolate(client: Client, given: argparse.Namespace) -> None:
    """Write the images between two as one row."""
    start = time.perf_counter()
    first, second = _read(given.first), _read(given.second)
    images = client.interpolate(given.name, first, second, given.steps, **version_of(given))
    took_ms = 1000 * (time.perf_counter() - start)
    count, height, width, channels = images.shape
    facts = {"steps": count, "height": height, "width": width, "channels": channels}
    output = given.output or Path(f"{given.name}-interpolation.png")
    _deliver(pictures.grid(images, columns=count), output, facts, took_ms, given)


def encode(client: Client, given: argparse.Namespace) -> None:
    """Print the code of an image."""
    code = client.encode(given.name, _read(given.image), **version_of(given))
    if given.output:
        write_array(given.output, code)
    if given.json:
        print_json({"image": str(given.image), "code": code.tolist(), "output": given.output and str(given.output)})
        return
    print(",".join(f"{value:.6g}" for value in code))
    if given.output:
        print(f"wrote {given.output}")


def decode(client: Client, given: argparse.Namespace) -> None:
    """Write the image of a code, or the images of several."""
    code = read_npy(given.code) if isinstance(given.code, Path) else np.array(given.code)
    start = time.perf_counter()
    images = client.decode(given.name, code, **version_of(given))
    took_ms = 1000 * (time.perf_counter() - start)
    images = images if images.ndim == 4 else images[None]
    facts = {"n": len(images), "height": images.shape[1], "width": images.shape[2], "channels": images.shape[3]}
    _deliver(pictures.grid(images), given.output or Path(f"{given.name}-decoded.png"), facts, took_ms, given)


def regress(client: Client, given: argparse.Namespace) -> None:
    """Print a number for each row."""
    rows = _rows(given.rows)
    answers = np.asarray(client.regress(given.name, rows, **version_of(given)), np.float64).reshape(len(rows), -1)
    if given.json:
        print_json([{"x": row, "y": y.tolist()} for row, y in zip(given.rows, answers, strict=True)])
        return
    for row, y in zip(given.rows, answers, strict=True):
        print(f"{given.name}({_numbers(row)}) = {_numbers(y)}")


def minimise(client: Client, given: argparse.Namespace) -> None:
    """Print the descent from each start to a minimum; in two dimensions, write a picture over contour lines."""
    signatures = client.metadata(given.name, **version_of(given)).signatures
    starts = given.starts
    if len(starts) > 1 and all(len(start) == 1 for start in starts):  # "1 0" means "1,0"
        starts = [[number for start in starts for number in start]]
    rows = _rows(starts)
    start = time.perf_counter()
    found = client.minimise(given.name, rows, **version_of(given))
    took_ms = 1000 * (time.perf_counter() - start)

    def value(points: Array) -> Array:
        return client.predict(given.name, {"x": points}, "value", outputs=["value"], **version_of(given))["value"]

    has_value = "value" in signatures and list(signatures["value"].inputs) == ["x"]
    before = value(rows).tolist() if has_value else [None] * len(rows)
    steps = found.path.shape[1] - 1
    answers = [
        {"start": at, "start_value": high, "minimum": end.tolist(), "value": float(low), "steps": steps}
        for at, high, end, low in zip(starts, before, found.minimum, found.value, strict=True)
    ]
    if not given.json:
        for answer in answers:
            print(_descent(given.name, answer))
    if rows.shape[1] == 2:
        output = given.output or Path(f"{given.name}.png")
        picture = contours.drawn(contours.from_starts(rows, found.path), value if has_value else None)
        _deliver(picture, output, {"descents": answers}, took_ms, given)
    elif given.json:
        print_json({"descents": answers, "output": None, "latency_ms": took_ms})


def _descent(name: str, answer: dict[str, Any]) -> str:
    start, high = _numbers(answer["start"]), answer["start_value"]
    if not np.isfinite([answer["value"], *answer["minimum"]]).all():
        return f"{name} diverges from ({start}): the steps are too long there; start from another point"
    came = f"from {high:.4g} at ({start})" if high is not None else f"from ({start})"
    low, end = round(answer["value"], 6), _numbers(answer["minimum"])
    return f"{name} falls {came} to {low:.4g} at ({end}) in {answer['steps']} steps"


def _rows(rows: list[list[float]]) -> Array:
    """float32 [n, features]. ValueError: the rows differ in length."""
    lengths = sorted({len(row) for row in rows})
    if len(lengths) != 1:
        raise ValueError(f"got rows of {' and '.join(map(str, lengths))} features; expected the same number in each")
    return np.array(rows, np.float32)


def _numbers(row: Iterable[float]) -> str:
    return ", ".join(f"{float(value):.6g}" for value in row)


def _label(labels: list[str], class_id: int) -> str:
    return labels[class_id] if class_id < len(labels) else f"class {class_id}"


def _texts(given: argparse.Namespace) -> list[str]:
    """The texts; without any, or for `-`, the lines of stdin that are not blank. ValueError: none, or a blank one."""
    if not given.texts and sys.stdin.isatty():  # a person who waits for an answer, not a pipe
        raise ValueError('got no text; expected ladle sentiment NAME "a lovely film"')
    found: list[str] = []
    for text in given.texts or ["-"]:
        found += [line.strip() for line in sys.stdin if line.strip()] if text == "-" else [text]
    if not found:
        raise ValueError('got no text on stdin; expected one per line, or ladle sentiment NAME "a lovely film"')
    if not all(text.strip() for text in found):
        raise ValueError("got a blank text; expected at least one word")
    return found


def _read(path: Path) -> Path | bytes:
    """An image file, or for `-` the bytes on stdin. ValueError: a person sits at stdin, or it is empty."""
    if str(path) != "-":
        return path
    if sys.stdin.isatty():
        raise ValueError("got - for an image, and no image on stdin; expected one, such as: ... - < image.png")
    data = sys.stdin.buffer.read()
    if not data:
        raise ValueError("got nothing on stdin; expected a PNG or JPEG image")
    return data


def _stem(path: Path) -> str:
    """What the pictures made of an image are called by default."""
    return "stdin" if str(path) == "-" else path.stem


def _open(image: Path | bytes) -> Image.Image:
    name = "stdin" if isinstance(image, bytes) else str(image)
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as picture:
            picture.load()
            return images.upright(picture)  # as it is asked
    except UnidentifiedImageError:
        raise ValueError(f"got {name}, which is not an image; expected PNG or JPEG") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name}: {error}") from None


def _deliver(
    picture: Image.Image, output: Path, facts: dict[str, Any], took_ms: float, given: argparse.Namespace
) -> None:
    """Write the picture in the format of its name's ending, show it if the terminal can, and print the facts."""
    picture.save(output)
    if given.json:
        print_json({**facts, "output": str(output), "latency_ms": took_ms})
        return
    inline.show(picture, given.inline)
    print(f"wrote {output}  {terminal.paint(f'{took_ms:.1f} ms', 'dim')}")
