"""How good a network is on a split: figures by its task, taken through the signatures that are served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ladle.models import Config, Task, himmelblau
from ladle.training.data.dataset import Array
from ladle.training.data.pipeline import Part, Prepared
from ladle.training.evaluate import metrics
from ladle.training.evaluate.functions import ROWS, Arrays, Served, judge

SAMPLES = 5_000
"""Images of each side of a Fréchet distance, at most."""
DIVERSE = 512
"""Images whose pairwise distances make the diversity."""
SHOWN = 64
"""Inputs and samples that are kept for pictures."""
EXTENT, POINTS = 5.0, 81
"""How far from the origin a surface is drawn, and in how many points each way."""


@dataclass
class Evaluation:
    """Figures for the model card, and what pictures are drawn from.

    metrics  numbers, words that name what they are, numbers by class
    answers  outputs for all examples of the split (`class_id` [n] ...), or for the first SHOWN where they are large
    notes    what could not be measured, and why
    """

    metrics: dict[str, Any]
    answers: Arrays = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def evaluate(served: Served, prepared: Prepared, repository: Path, split: str = "test") -> Evaluation:
    """Measure a network on a split. `repository` is where a classifier for the Fréchet distance is looked for."""
    part: Part = getattr(prepared, split)
    result = _BY_TASK[prepared.task](served, prepared, part)
    if "generate" in served:
        other = _generation(served, prepared, split, repository)
        result.metrics |= other.metrics
        result.answers |= other.answers
        result.notes += other.notes
    return result


def _classify(served: Served, prepared: Prepared, part: Part) -> Evaluation:
    answers = _collect(served, "image", part, ("probabilities", "class_id"))
    truth = part.targets()
    k = getattr(prepared.config, "top_k", 5)
    figures = {
        "accuracy": metrics.accuracy(answers["class_id"], truth),
        f"top_{k}_accuracy": metrics.top_k(answers["probabilities"], truth, k),
        "cross_entropy": metrics.cross_entropy(answers["probabilities"], truth),
    }
    return Evaluation(figures, answers)


def _sentiment(served: Served, prepared: Prepared, part: Part) -> Evaluation:
    answers = _collect(served, "tokens", part, ("probability", "class_id"))
    positive = answers.pop("probability")
    answers["probabilities"] = np.stack([1 - positive, positive], axis=1)
    truth = part.targets()
    figures = {
        "accuracy": metrics.accuracy(answers["class_id"], truth),
        "cross_entropy": metrics.cross_entropy(answers["probabilities"], truth),
    }
    return Evaluation(figures, answers)


def _segment(served: Served, prepared: Prepared, part: Part) -> Evaluation:
    labels = prepared.assets.labels
    classes = len(labels)
    confusion = np.zeros((classes, classes), np.int64)
    maps = []
    for start in range(0, len(part), ROWS_OF_MAPS):
        rows = slice(start, start + ROWS_OF_MAPS)
        class_map = served("serving_default", image=part.inputs(rows))["class_map"].astype(np.uint8)
        confusion += metrics.confusion_matrix(class_map, part.targets(rows), classes)
        maps.append(class_map)
    each = metrics.class_iou(confusion)
    figures = {
        "iou": metrics.mean_iou(confusion, background=False),
        "mean_iou": metrics.mean_iou(confusion),
        "pixel_accuracy": float(np.trace(confusion) / confusion.sum()),
        "class_iou": {label: float(iou) for label, iou in zip(labels, each, strict=True) if np.isfinite(iou)},
    }
    return Evaluation(figures, {"class_map": np.concatenate(maps)})


def _regress(served: Served, prepared: Prepared, part: Part) -> Evaluation:
    answers = list(served.rows("serving_default", "x", part.inputs, len(part)))
    predicted = np.concatenate([next(iter(answer.values())) for answer in answers]).reshape(-1)
    truth = part.targets()
    figures = {
        "squared_error": metrics.squared_error(predicted, truth),
        "absolute_error": metrics.absolute_error(predicted, truth),
        "r_squared": metrics.r_squared(predicted, truth),
    }
    shown = {"predicted": predicted}
    if "minimum" in answers[0]:
        reached, seen = _descents(served)
        figures, shown = figures | reached, shown | seen
    return Evaluation(figures, shown)


def _descents(served: Served) -> tuple[dict[str, float], dict[str, Array]]:
    """From the starts that are shown: how many different minima are reached, and the largest value at the end.

    And what a picture of it needs: paths float32 [n, steps + 1, 2], and the function's values on a square of points,
    float32 [m, m], rows by y and columns by x, both from -EXTENT to EXTENT.
    """
    answer = served("serving_default", x=np.array(himmelblau.STARTS, np.float32))
    ticks = np.linspace(-EXTENT, EXTENT, POINTS, dtype=np.float32)
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    surface = served("value", x=points)["value"].reshape(POINTS, POINTS)
    figures = {
        "minima_reached": float(metrics.distinct(answer["minimum"], apart=1.0)),
        "largest_value": float(answer["value"].max()),
    }
    return figures, {"paths": answer["path"], "surface": surface}


def _reconstruct(served: Served, prepared: Prepared, part: Part) -> Evaluation:
    """Squared error, of mended images too where training corrupts them; how normal the codes are; if they are
    distributions, the ELBO.
    """
    errors, bounds, shown, codes, mended = [], [], [], [], []
    random = np.random.default_rng(prepared.config.seed)
    for start in range(0, len(part), ROWS):
        image = part.inputs(slice(start, start + ROWS))
        reconstruction = next(iter(served("serving_default", image=image).values()))
        errors.append(np.mean((reconstruction - image) ** 2, axis=(1, 2, 3)))
        if start < SHOWN:
            shown.append(reconstruction)
        code = served("encode", image=image) if "encode" in served else {}
        if "log_var" in code:
            mean, log_var = code["code"], code["log_var"]
            noise = random.standard_normal(mean.shape, np.float32)
            code["code"] = mean + np.exp(0.5 * log_var) * noise
            sampled = served("decode", code=code["code"])["image"]
            bounds.append(metrics.elbo(image, sampled, mean, log_var))
        if code:
            codes.append(code["code"])
        if corrupted := _corrupted(image, prepared.config, random):
            mended.append(_mended(served, image, corrupted[0]))
    figures: dict[str, Any] = {}
    if bounds:
        figures = {"elbo": float(np.mean(np.concatenate(bounds)))}
        figures["likelihood"] = "Bernoulli, grey levels as probabilities; nats an image, one sample of the code"
    figures["squared_error"] = float(np.mean(np.concatenate(errors)))
    if mended:
        figures["mended_squared_error"], figures["corrupted_squared_error"] = np.mean(mended, axis=0).tolist()
        figures["corruption"] = corrupted[1] if corrupted else ""
    if codes:
        off = metrics.off_normal(np.concatenate(codes))
        figures["code_off_normal"] = off
    return Evaluation(figures, {"reconstructions": np.concatenate(shown)[:SHOWN]})


def _corrupted(image: Array, config: Config, random: np.random.Generator) -> tuple[Array, str] | None:
    """Images [n, h, w, c] as training corrupts them, and how; None where it does not."""
    noise, dropout = getattr(config, "noise", 0.0), getattr(config, "dropout", 0.0)
    if not noise and not dropout:
        return None
    said = []
    if noise:
        image = np.clip(image + random.normal(0, noise, image.shape).astype(np.float32), 0, 1)
        said.append(f"normal noise of standard deviation {noise:g}")
    if dropout:
        image = np.where(random.random(image.shape) >= dropout, image, np.float32(0))
        said.append(f"{dropout:.0%} of the pixels dropped")
    return image, " and ".join(said)


def _mended(served: Served, image: Array, corrupted: Array) -> tuple[float, float]:
    """Squared error of corrupted images after and before the network."""
    mended = next(iter(served("serving_default", image=corrupted).values()))
    return metrics.squared_error(mended, image), metrics.squared_error(corrupted, image)


def _generate(served: Served, prepared: Prepared, part: Part) -> Evaluation:
    return Evaluation({})


def _generation(served: Served, prepared: Prepared, split: str, repository: Path) -> Evaluation:
    """Diversity of samples, and their Fréchet distance where the repository has a classifier for such images."""
    real = np.asarray(getattr(prepared.dataset, split).x)[:SAMPLES]
    if len(real) < 2:
        return Evaluation({}, {"samples": draw(served, SHOWN)}, [f"no diversity: {len(real)} {split} image is too few"])
    samples = draw(served, len(real))
    figures: dict[str, Any] = {"diversity": metrics.diversity(samples[:DIVERSE], real[:DIVERSE])}
    answers = {"samples": samples[:SHOWN]}
    features = judge(repository, real.shape[1:], prepared.dataset.provenance.name)
    if features is None:
        shape = "×".join(map(str, real.shape[1:]))
        note = f"no Fréchet distance: {repository} has no classifier of {shape} images; train one first"
        return Evaluation(figures, answers, [note])
    random = np.random.default_rng(prepared.config.seed)
    chosen = np.sort(random.choice(len(prepared.train), min(len(prepared.train), len(real)), replace=False))
    noise = random.integers(0, 256, real.shape, np.uint8)
    wanted, made = features(real)["logits"], features(samples)
    reconstructed: dict[str, float] = {}
    if "reconstruct_bytes" in served:
        back = served.rows("serving_default", "image", lambda rows: real[rows] / np.float32(255), len(real))
        images = np.concatenate([np.rint(next(iter(a.values())) * 255).astype(np.uint8) for a in back])
        reconstructed = {
            "reconstruction_frechet_distance": metrics.frechet_distance(features(images)["logits"], wanted)
        }
    figures |= {
        "frechet_distance": metrics.frechet_distance(made["logits"], wanted),
        "frechet_floor": metrics.frechet_distance(
            features(np.asarray(prepared.dataset.train.x)[chosen])["logits"], wanted
        ),
        "frechet_ceiling": metrics.frechet_distance(features(noise)["logits"], wanted),
        **reconstructed,
        "classes_covered": metrics.covered(made["class_id"], features.classes),
        "features": f"{features.name}; floor: training against {split} images, ceiling: uniform noise",
    }
    return Evaluation(figures, answers)


def draw(served: Served, count: int, seed: int = 0) -> Array:
    """Samples of a network that generates: uint8 [count, h, w, c], the same ones for the same seed."""
    parts = [
        served("generate", n=np.int32(min(ROWS, count - start)), seed=np.int64(seed + start))["images"]
        for start in range(0, count, ROWS)
    ]
    return np.concatenate(parts)


ROWS_OF_MAPS = 8
"""Images of one call where the answer is a map."""

_BY_TASK: dict[Task, Callable[[Served, Prepared, Part], Evaluation]] = {
    "classify": _classify,
    "sentiment": _sentiment,
    "segment": _segment,
    "regress": _regress,
    "reconstruct": _reconstruct,
    "generate": _generate,
}


def _collect(served: Served, name: str, part: Part, outputs: tuple[str, ...]) -> Arrays:
    """The named outputs of serving_default for a whole split."""
    answers = list(served.rows("serving_default", name, part.inputs, len(part)))
    return {output: np.concatenate([answer[output] for answer in answers]) for output in outputs}
