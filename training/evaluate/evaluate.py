"""Measure a network on a split: metrics by task, computed through the signatures that are exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ladle.models import Config, Task
from ladle.training.data.dataset import Array
from ladle.training.data.pipeline import Part, Prepared
from ladle.training.evaluate import baselines, metrics
from ladle.training.evaluate.functions import ROWS, Arrays, Functions, feature_extractor

SAMPLES = 5_000
"""Most images on each side of a Fréchet distance."""
DIVERSE = 512
"""Images whose pairwise distances give the diversity; their number grows with the square of the images'."""
SHOWN = 64
"""Inputs and samples kept for pictures."""
POINTS_COMPARED = 2_000
"""Most points on each side of a comparison; their number grows with its square."""
NOISE = 0.02
"""Standard deviation of the noise that filters are given."""
EXTENT, POINTS = 5.0, 81
"""A function's surface is drawn from -EXTENT to EXTENT, in POINTS points each way."""


@dataclass
class Evaluation:
    """Metrics for the model card, and the answers that pictures are drawn from.

    metrics  numbers, words that explain them, and numbers by class
    answers  outputs for all examples of the split (`class_id` [n] ...); for the first SHOWN examples if they are images
    notes    what could not be measured, and why
    """

    metrics: dict[str, Any]
    answers: Arrays = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def evaluate(functions: Functions, prepared: Prepared, repository: Path, split: str = "test") -> Evaluation:
    """Measure a network on a split.

    repository  holds the classifier for the Fréchet distance, if there is one
    split       "train", "validation" or "test"
    """
    part: Part = getattr(prepared, split)
    result = _BY_TASK[prepared.task](functions, prepared, part)
    if "generate" in functions and prepared.dataset.kind == "images":
        other = _generation(functions, prepared, split, repository)
        result.metrics |= other.metrics
        result.answers |= other.answers
        result.notes += other.notes
    if simple := baselines.measure(prepared, part):
        result.metrics["baselines"] = simple
    return result


def _classify(functions: Functions, prepared: Prepared, part: Part) -> Evaluation:
    if prepared.dataset.kind == "table":
        return _classify_rows(functions, prepared, part)
    answers = _collect(functions, "image", part, ("probabilities", "class_id"))
    truth = part.targets()
    k = getattr(prepared.config, "top_k", 5)
    figures = {
        "accuracy": metrics.accuracy(answers["class_id"], truth),
        f"top_{k}_accuracy": metrics.top_k(answers["probabilities"], truth, k),
        "cross_entropy": metrics.cross_entropy(answers["probabilities"], truth),
    }
    return Evaluation(figures, answers)


def _classify_rows(functions: Functions, prepared: Prepared, part: Part) -> Evaluation:
    answers = _collect(functions, "x", part, ("probabilities", "class_id"), "rows")
    truth = part.targets()
    most = int(np.bincount(prepared.train.targets()).argmax())
    figures = {
        "accuracy": metrics.accuracy(answers["class_id"], truth),
        "cross_entropy": metrics.cross_entropy(answers["probabilities"], truth),
        "baseline_accuracy": float(np.mean(truth == most)),
    }
    label = prepared.assets.labels[most]
    note = f"baseline: always {label}, the most frequent class, has accuracy {figures['baseline_accuracy']:.4g}"
    return Evaluation(figures, answers, [note])


def _sentiment(functions: Functions, prepared: Prepared, part: Part) -> Evaluation:
    answers = _collect(functions, "tokens", part, ("probability", "class_id"))
    positive = answers.pop("probability")
    answers["probabilities"] = np.stack([1 - positive, positive], axis=1)
    truth = part.targets()
    figures = {
        "accuracy": metrics.accuracy(answers["class_id"], truth),
        "cross_entropy": metrics.cross_entropy(answers["probabilities"], truth),
    }
    return Evaluation(figures, answers)


def _segment(functions: Functions, prepared: Prepared, part: Part) -> Evaluation:
    labels = prepared.assets.labels
    classes = len(labels)
    confusion = np.zeros((classes, classes), np.int64)
    maps = []
    for start in range(0, len(part), ROWS_OF_MAPS):
        rows = slice(start, start + ROWS_OF_MAPS)
        class_map = functions("serving_default", image=part.inputs(rows))["class_map"].astype(np.uint8)
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


def _regress(functions: Functions, prepared: Prepared, part: Part) -> Evaluation:
    own_table = "rows" in functions
    answers = list(functions.rows("rows" if own_table else "serving_default", "x", part.inputs, len(part)))
    predicted = np.concatenate([next(iter(answer.values())) for answer in answers]).reshape(-1)
    truth = part.targets()
    figures = {
        "squared_error": metrics.squared_error(predicted, truth),
        "absolute_error": metrics.absolute_error(predicted, truth),
        "r_squared": metrics.r_squared(predicted, truth),
    }
    shown, notes = {"predicted": predicted}, []
    if own_table:
        mean = prepared.train.targets().mean(dtype=np.float64)
        figures["baseline_absolute_error"] = metrics.absolute_error(np.full_like(truth, mean), truth)
        notes = [f"baseline: always the mean, {mean:.6g}, has absolute error {figures['baseline_absolute_error']:.4g}"]
    starts = getattr(prepared.config, "starts", ())
    if starts:
        metrics_of_descents, paths = _descents(functions, np.array(starts, np.float32).reshape(-1, 2))
        figures, shown = figures | metrics_of_descents, shown | paths
    return Evaluation(figures, shown, notes)


def _descents(functions: Functions, starts: Array) -> tuple[dict[str, float], dict[str, Array]]:
    """From the starts [n, 2]: how many different minima are reached, and the largest value at the end.

    And the arrays for a picture: paths float32 [n, steps + 1, 2], and the function's values on a square of points,
    float32 [m, m], rows by y and columns by x, both from -EXTENT to EXTENT.
    """
    answer = functions("serving_default", x=starts)
    ticks = np.linspace(-EXTENT, EXTENT, POINTS, dtype=np.float32)
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    surface = functions("value", x=points)["value"].reshape(POINTS, POINTS)
    figures = {
        "minima_reached": float(metrics.distinct(answer["minimum"], apart=1.0)),
        "largest_value": float(answer["value"].max()),
    }
    return figures, {"paths": answer["path"], "surface": surface}


def _reconstruct(functions: Functions, prepared: Prepared, part: Part) -> Evaluation:
    """Squared error; that of mended images, if training corrupts them; the normality of the codes; and the ELBO, if the
    codes are distributions.
    """
    errors, bounds, shown, codes, mended = [], [], [], [], []
    sides: list[tuple[Array, Array]] = []
    random = np.random.default_rng(prepared.config.seed)
    for start in range(0, len(part), ROWS):
        image = part.inputs(slice(start, start + ROWS))
        reconstruction = next(iter(functions("serving_default", image=image).values()))
        errors.append(np.mean((reconstruction - image) ** 2, axis=(1, 2, 3)))
        if start < SHOWN:
            shown.append(reconstruction)
        code = functions("encode", image=image) if "encode" in functions else {}
        if "log_var" in code:
            mean, log_var = code["code"], code["log_var"]
            noise = random.standard_normal(mean.shape, np.float32)
            code["code"] = mean + np.exp(0.5 * log_var) * noise
            sampled = functions("decode", code=code["code"])["image"]
            bounds.append(metrics.elbo(image, sampled, mean, log_var))
        if code:
            codes.append(code["code"])
        if corrupted := _corrupted(image, prepared.config, random):
            after = next(iter(functions("serving_default", image=corrupted[0]).values()))
            mended.append((metrics.squared_error(after, image), metrics.squared_error(corrupted[0], image)))
            if start < SHOWN:
                sides.append((corrupted[0], after))
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
    answers = {"reconstructions": np.concatenate(shown)[:SHOWN]}
    if sides:
        before, mended_images = zip(*sides, strict=True)
        answers |= {"corrupted": np.concatenate(before)[:SHOWN], "mended": np.concatenate(mended_images)[:SHOWN]}
    if codes and "decode" in functions:
        places = _different(prepared.dataset.test.y if part is prepared.test else None)
        answers["walk"] = _walk(functions, np.concatenate(codes)[places])
    return Evaluation(figures, answers)


def _different(labels: Array | None) -> Array:
    """Places of the first examples of four classes, int64 [4]; the first four examples without classes."""
    if labels is None or labels.ndim != 1:
        return np.arange(4)
    first = np.sort(np.unique(labels, return_index=True)[1])
    return first[:4] if len(first) >= 4 else np.arange(4)


def _walk(functions: Functions, corners: Array) -> Array:
    """What the codes between four codes decode to, row by row: uint8 [WALK², h, w, c].

    corners  codes of upper left, upper right, lower left and lower right, float32 [4, latent_dim]
    """
    share = np.linspace(0, 1, WALK, dtype=np.float32)
    across, down = share[None, :, None], share[:, None, None]
    upper, lower = ((1 - across) * a + across * b for a, b in (corners[:2], corners[2:]))
    walked = (1 - down) * upper + down * lower  # [WALK, WALK, latent_dim]
    return functions("decode", code=walked.reshape(WALK * WALK, -1))["images"]


def _corrupted(image: Array, config: Config, random: np.random.Generator) -> tuple[Array, str] | None:
    """Images [n, h, w, c] corrupted as in training, and how; None if training does not corrupt images."""
    noise, dropout = getattr(config, "noise", 0.0), getattr(config, "dropout", 0.0)
    if not noise and not dropout:
        return None
    words = []
    if noise:
        image = np.clip(image + random.normal(0, noise, image.shape).astype(np.float32), 0, 1)
        words.append(f"normal noise of standard deviation {noise:g}")
    if dropout:
        image = np.where(random.random(image.shape) >= dropout, image, np.float32(0))
        words.append(f"{dropout:.0%} of the pixels dropped")
    return image, " and ".join(words)


def _filter(functions: Functions, prepared: Prepared, part: Part) -> Evaluation:
    """The share of the images that is edges, and by which factor sharpening and blurring change noise."""
    answers = functions("serving_default", image=part.inputs(slice(0, SHOWN)))
    found = functions.rows("serving_default", "image", part.inputs, len(part))
    edges = [answer["sobel"].mean(axis=(1, 2, 3)) for answer in found]
    shape = (SHOWN, *part.inputs(slice(0, 1)).shape[1:])
    # Grey noise, far from black and white, where the answers are clipped.
    noise = np.random.default_rng(prepared.config.seed).normal(0.5, NOISE, shape).astype(np.float32)
    after = functions("serving_default", image=noise)
    inner = np.s_[:, 1:-1, 1:-1]  # at the border pixels are repeated, and noise that is repeated is not averaged
    changes = {f"noise_after_{name}": float(after[name][inner].std() / noise.std()) for name in ("sharpen", "blur")}
    return Evaluation({"edges": float(np.mean(np.concatenate(edges))), **changes}, answers)


def _generate(functions: Functions, prepared: Prepared, part: Part) -> Evaluation:
    """Nothing of images, which `_generation` measures; of points in the plane how well they cover the real ones."""
    if prepared.dataset.kind != "points":
        return Evaluation({})
    real = np.asarray(part.inputs(slice(0, POINTS_COMPARED)))
    z = np.random.default_rng(prepared.config.seed).standard_normal((len(real), prepared.config.latent_dim), np.float32)  # type: ignore[attr-defined]
    made = functions("serving_default", z=z)["x"]
    others = np.asarray(prepared.train.inputs(slice(0, len(real))))
    # Two points are near if a real point has another real one at that distance, 99 times of 100.
    near = float(np.quantile(metrics.nearest(real, others), 0.99))
    figures = {
        "sliced_wasserstein": metrics.sliced_wasserstein(made, real),
        "sliced_wasserstein_floor": metrics.sliced_wasserstein(others, real),
        "recall": float(np.mean(metrics.nearest(real, made) <= near)),
        "precision": float(np.mean(metrics.nearest(made, real) <= near)),
        "near": near,
    }
    extent = 1.1 * float(np.abs(real).max())
    ticks = np.linspace(-extent, extent, POINTS, dtype=np.float32)
    plane = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    score = functions("critic", x=plane)["value"].reshape(POINTS, POINTS)
    return Evaluation(figures, {"points": made, "score": score, "ticks": ticks})


def _generation(functions: Functions, prepared: Prepared, split: str, repository: Path) -> Evaluation:
    """Diversity of samples, and their Fréchet distance if the repository has a classifier for such images."""
    real = np.asarray(getattr(prepared.dataset, split).x)[:SAMPLES]
    if len(real) < 2:
        note = f"no diversity: got {len(real)} {split} images; expected 2 or more"
        return Evaluation({}, {"samples": draw(functions, SHOWN)}, [note])
    samples = draw(functions, len(real))
    figures: dict[str, Any] = {"diversity": metrics.diversity(samples[:DIVERSE], real[:DIVERSE])}
    answers = {"samples": samples[:SHOWN]}
    features = feature_extractor(repository, real.shape[1:], prepared.dataset.provenance.name)
    if features is None:
        shape = "×".join(map(str, real.shape[1:]))
        note = f"no Fréchet distance: {repository} has no classifier for {shape} images; train one first"
        return Evaluation(figures, answers, [note])
    random = np.random.default_rng(prepared.config.seed)
    # The floor compares real images with real ones: no generator can be expected below it.
    chosen = np.sort(random.choice(len(prepared.train), min(len(prepared.train), len(real)), replace=False))
    noise = random.integers(0, 256, real.shape, np.uint8)
    real_features, made = features(real)["logits"], features(samples)
    reconstructed: dict[str, float] = {}
    if "reconstruct_bytes" in functions:
        back = functions.rows("serving_default", "image", lambda rows: real[rows] / np.float32(255), len(real))
        images = np.concatenate([np.rint(next(iter(a.values())) * 255).astype(np.uint8) for a in back])
        reconstructed = {
            "reconstruction_frechet_distance": metrics.frechet_distance(features(images)["logits"], real_features)
        }
    figures |= {
        "frechet_distance": metrics.frechet_distance(made["logits"], real_features),
        "frechet_floor": metrics.frechet_distance(
            features(np.asarray(prepared.dataset.train.x)[chosen])["logits"], real_features
        ),
        "frechet_ceiling": metrics.frechet_distance(features(noise)["logits"], real_features),
        **reconstructed,
        "classes_covered": metrics.covered(made["class_id"], features.classes),
        "features": f"{features.name}; floor: training against {split} images, ceiling: uniform noise",
    }
    return Evaluation(figures, answers)


def draw(functions: Functions, count: int, seed: int = 0) -> Array:
    """Samples of a generating network: uint8 [count, h, w, c]; the same seed gives the same samples."""
    parts = [
        functions("generate", n=np.int32(min(ROWS, count - start)), seed=np.int64(seed + start))["images"]
        for start in range(0, count, ROWS)
    ]
    return np.concatenate(parts)


WALK = 8
"""Images of a side of the walk between four codes."""
ROWS_OF_MAPS = 8
"""Images in one call whose answer is a map of every pixel."""

_BY_TASK: dict[Task, Callable[[Functions, Prepared, Part], Evaluation]] = {
    "classify": _classify,
    "sentiment": _sentiment,
    "segment": _segment,
    "regress": _regress,
    "reconstruct": _reconstruct,
    "generate": _generate,
    "filter": _filter,
}


def _collect(
    functions: Functions, name: str, part: Part, outputs: tuple[str, ...], signature: str = "serving_default"
) -> Arrays:
    """The named outputs of a signature for all examples of a split."""
    answers = list(functions.rows(signature, name, part.inputs, len(part)))
    return {output: np.concatenate([answer[output] for answer in answers]) for output in outputs}
