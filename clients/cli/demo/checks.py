"""The inputs that the demo sends to a model over gRPC and REST, and the checks of its answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ladle.clients.drawing import pictures
from ladle.clients.library.client import Client

SAMPLES = 4
"""Inputs from the test set that each model gets."""
SHOWN = 3
"""Figures of the card in the headline."""
VOID = 255
"""Class id of mask pixels that do not count, as Ladle writes the masks of samples."""
GENERATED = 16
SEED = 0
"""The default of `ladle generate`. Of wgan_gp's images it shows more that can be recognised than most seeds."""

T = TypeVar("T")


@dataclass
class Answers:
    """The lines to print about a model, and the faults that were found."""

    headline: str
    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Subject:
    """A model, a client for each protocol, and the folder for its pictures."""

    name: str
    folder: Path
    card: dict[str, Any]
    grpc: Client
    rest: Client
    output: Path
    answers: Answers

    def samples(self) -> list[dict[str, str]]:
        entries: list[dict[str, str]] = json.loads((self.folder / "assets.extra/samples/samples.json").read_text())
        return entries[:SAMPLES]

    def sample(self, file: str) -> Path:
        return self.folder / "assets.extra" / "samples" / file

    def both(self, call: Callable[[Client], T], same: Callable[[T, T], bool]) -> tuple[T, str]:
        """The answer over gRPC, and both latencies as text. It is a fault if REST answers something else."""
        (over_grpc, grpc_ms), (over_rest, rest_ms) = _timed(call, self.grpc), _timed(call, self.rest)
        if not same(over_grpc, over_rest):
            self.answers.faults.append("gRPC and REST answer differently")
        return over_grpc, f"gRPC {grpc_ms:6.1f} ms  REST {rest_ms:6.1f} ms"

    def check(self, right: bool, fault: str) -> None:
        if not right:
            self.answers.faults.append(fault)

    def save(self, image: Image.Image, file: str) -> None:
        path = self.output / file
        image.save(path)
        self.answers.lines.append(f"wrote {path}")


def run(name: str, folder: Path, grpc: Client, rest: Client, output: Path) -> Answers:
    """Send samples to the model `name`, exported in `folder`, over both protocols; pictures go to `output`.

    LadleError: a server does not answer; OSError: the folder has no card or samples.
    """
    card = json.loads((folder / "assets.extra" / "card.json").read_text())
    answers = Answers(headline(name, card))
    subject = _Subject(name, folder, card, grpc, rest, output, answers)
    CHECKS[card["task"]](subject)
    return answers


def headline(name: str, card: dict[str, Any]) -> str:
    """The card in one line: figures, data, training time."""
    test = card["metrics"].get("test", {})
    told = [f"{key} {value:.4g}" for key, value in test.items() if isinstance(value, int | float)]
    figures = ", ".join(told[:SHOWN])
    data = f"{card['data']['name']} (SYNTHETIC)" if card["data"]["synthetic"] else card["data"]["name"]
    trained = f"trained in {card['training_seconds']:.0f} s"
    return f"{name} version {card['version']}: {figures or 'no figures'} on {data}, {trained}"


def _timed(call: Callable[[Client], T], client: Client) -> tuple[T, float]:
    call(client)  # not timed: it connects and fetches the metadata
    start = time.perf_counter()
    answer = call(client)
    return answer, 1000 * (time.perf_counter() - start)


def _classify(subject: _Subject) -> None:
    for sample in subject.samples():
        image = subject.sample(sample["file"])
        answer, took = subject.both(
            partial(Client.classify, name=subject.name, image=image),
            lambda a, b: a.label == b.label and abs(a.probability - b.probability) < 1e-4,
        )
        subject.check(answer.label in subject.card["labels"], f"{answer.label!r} is not one of its labels")
        subject.check(abs(float(np.sum(answer.probabilities)) - 1) < 1e-3, "probabilities do not add up to 1")
        verdict = "right" if answer.label == sample["label"] else "wrong"
        subject.answers.lines.append(
            f"{answer.label:<13} {answer.probability:7.1%}  truth {sample['label']:<13} {verdict:<5}  {took}"
        )


def _sentiment(subject: _Subject) -> None:
    for sample in subject.samples():
        text = sample["text"]
        answer, took = subject.both(
            partial(Client.sentiment, text=text, name=subject.name),
            lambda a, b: a.label == b.label and abs(a.probability - b.probability) < 1e-4,
        )
        subject.check(answer.label in subject.card["labels"], f"{answer.label!r} is not one of its labels")
        subject.check(0 <= answer.probability <= 1, f"probability is {answer.probability}")
        verdict = "right" if answer.label == sample["label"] else "wrong"
        shown = text if len(text) <= 40 else "…" + text[-39:]
        subject.answers.lines.append(
            f"{answer.label:<9} {answer.probability:7.1%}  truth {sample['label']:<9} {verdict:<5}  {took}  {shown}"
        )


def _generate(subject: _Subject) -> None:
    images, took = subject.both(
        lambda client: client.generate(subject.name, GENERATED, SEED), lambda a, b: np.array_equal(a, b)
    )
    subject.check(images.dtype == np.uint8 and len(images) == GENERATED, f"images are {images.dtype} {images.shape}")
    subject.check(float(images.std()) > 1, "the images are blank")
    subject.answers.lines.append(f"{GENERATED} images of {images.shape[2]}×{images.shape[1]} from seed {SEED}  {took}")
    subject.save(pictures.grid(images), f"{subject.name}-generated.png")


def _reconstruct(subject: _Subject) -> None:
    paths = [subject.sample(sample["file"]) for sample in subject.samples()]
    originals = [np.atleast_3d(np.asarray(Image.open(path))) for path in paths]
    for path, original in zip(paths, originals, strict=True):
        image, took = subject.both(
            partial(Client.reconstruct, name=subject.name, image=path), lambda a, b: np.allclose(a, b, atol=1e-4)
        )
        subject.check(image.shape == original.shape, f"the reconstruction is {image.shape}, not {original.shape}")
        error = float(np.mean(np.abs(image - original / 255)))
        subject.answers.lines.append(f"reconstructed a test image, mean error {error:.3f}  {took}")
    _generate(subject)


def _filter(subject: _Subject) -> None:
    for sample in subject.samples():
        found, took = subject.both(
            partial(Client.filter, name=subject.name, image=subject.sample(sample["file"])),
            lambda a, b: a.keys() == b.keys() and all(np.allclose(a[name], b[name], atol=1e-4) for name in a),
        )
        subject.answers.lines.append(f"filtered a test image: {', '.join(found)}  {took}")
        subject.save(pictures.grid(np.stack(list(found.values())), columns=len(found)), f"{subject.name}.png")


def _segment(subject: _Subject) -> None:
    shown: list[np.ndarray[Any, Any]] = []
    for sample in subject.samples():
        path, truth = subject.sample(sample["file"]), np.asarray(Image.open(subject.sample(sample["mask"])))
        answer, took = subject.both(
            partial(Client.segment, name=subject.name, image=path),
            lambda a, b: float(np.mean(a.class_map == b.class_map)) > 0.999,
        )
        subject.check(answer.class_map.shape == truth.shape, f"mask is {answer.class_map.shape}, not {truth.shape}")
        height, width = truth.shape
        iou = f"IoU with the truth {_iou(answer.class_map, truth):.3f}"
        subject.answers.lines.append(f"mask of {width}×{height}, {iou}  {took}")
        image = Image.open(path)
        shown += [np.asarray(image.convert("RGB"))]
        shown += [np.asarray(pictures.overlay(image, class_map)) for class_map in (answer.class_map, truth)]
    subject.save(pictures.grid(np.stack(shown), columns=3), f"{subject.name}-masks.png")
    subject.answers.lines[-1] += "  (image, answer, truth)"


def _iou(prediction: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    """Mean over the classes of the truth, background aside, of intersection over union; VOID pixels do not count."""
    scores = []
    prediction, truth = prediction[truth != VOID], truth[truth != VOID]
    for label in np.unique(truth[truth > 0]):
        union = (prediction == label) | (truth == label)
        scores.append(float(((prediction == label) & (truth == label)).sum() / union.sum()))
    return float(np.mean(scores)) if scores else 1.0


CHECKS: dict[str, Callable[[_Subject], None]] = {
    "classify": _classify,
    "sentiment": _sentiment,
    "generate": _generate,
    "reconstruct": _reconstruct,
    "segment": _segment,
    "filter": _filter,
}
