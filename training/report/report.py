"""Pictures of a training run: curves, confusion matrix, mistakes, samples, reconstructions, masks over images."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ladle.models import Task
from ladle.training.data.dataset import Array
from ladle.training.data.pipeline import Prepared
from ladle.training.evaluate import metrics
from ladle.training.evaluate.evaluate import Evaluation
from ladle.training.loop.checkpoint import Figures
from ladle.training.report import pictures
from ladle.training.report.numbers import density, descents, scatter
from ladle.training.report.style import ACCENT, INK, MUTED, SECOND, STYLE

NOT_CURVES = ("epoch", "seconds", "learning_rate")
PANELS, ACROSS = 6, 3
LISTED = 4
"""Classes whose IoU stands in a title."""
PAGE = 8.5, 8.0
"""Inches across and down that a picture may take."""
LINE, TILE, SPACE = 0.25, 1.6, 0.15
"""Inches of a line of words, of an image among others, and between two of them."""
MISTAKES = 15
ANSWERED_TEXTS = 6
FILTERED = 6


def write(
    folder: Path, name: str, prepared: Prepared, history: Sequence[Figures], best: int, result: Evaluation
) -> None:
    """Draw the pictures for the network's task into a folder, as PNG files.

    best    the epoch whose weights were kept, from 1; 0: none
    result  the evaluation of the test split
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = f"{prepared.dataset.name}, test split"
    if prepared.dataset.provenance.synthetic:
        source += ", SYNTHETIC"
    with mpl.rc_context(STYLE):
        if history:
            _save(_curves(name, history, best), folder / "curves.png")
        for file, draw in _BY_TASK[prepared.task].items():
            figure = draw(prepared, result, source)
            if figure is not None:
                _save(figure, folder / file)
        if "samples" in result.answers:
            _save(_samples(prepared, result, source), folder / "samples.png")
        if "samples" in result.answers and "walk" in result.answers:
            _save(_latent(result, source), folder / "latent.png")


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.15)


def _curves(name: str, history: Sequence[Figures], best: int) -> Figure:
    """One panel for each metric, with training and validation in it."""
    figures = [key for key in history[-1] if key not in NOT_CURVES]
    bases = list(dict.fromkeys(key.removeprefix("val_") for key in figures))[:PANELS]
    across, down = min(len(bases), ACROSS), -(-len(bases) // ACROSS)
    figure = Figure((3.4 * across, 2.6 * down + 0.4), layout="constrained")
    epochs = [int(row["epoch"]) for row in history]
    marker = "o" if len(epochs) < 30 else None
    kinds = (("training", "", ACCENT), ("validation", "val_", SECOND))
    for i, base in enumerate(bases):
        axes = figure.add_subplot(down, across, i + 1)
        for _, prefix, colour in kinds:
            if prefix + base in figures:
                values = [row.get(prefix + base, float("nan")) for row in history]
                axes.plot(epochs, values, color=colour, marker=marker, markersize=3)
        if 0 < best <= epochs[-1]:
            axes.axvline(best, color=MUTED, linewidth=0.8, linestyle=":")
        axes.set_title(base.replace("_", " "))
        if i >= len(bases) - across:
            axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", alpha=0.25)
        if i == 0:
            axes.legend([Line2D([], [], color=colour) for *_, colour in kinds], [label for label, *_ in kinds])
    figure.suptitle(f"{name}: metrics by epoch (dotted: epoch {best}, whose weights were kept)", fontsize=10)
    return figure


def _confusion(prepared: Prepared, result: Evaluation, source: str) -> Figure:
    labels = prepared.assets.labels
    truth = prepared.test.targets()
    confusion = metrics.confusion_matrix(result.answers["class_id"], truth, len(labels))
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    few = len(labels) <= 20
    size = 2.2 + 0.46 * min(len(labels), 20)
    figure = Figure((size + 0.8, size), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{source}: accuracy {np.trace(confusion) / confusion.sum():.4f}, counts")
    for spine in axes.spines.values():
        spine.set_visible(False)
    if few:
        axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(labels)), labels)
        for i, j in np.argwhere(confusion > 0):
            colour = "white" if share[i, j] > 0.5 else INK
            axes.text(j, i, f"{confusion[i, j]}", ha="center", va="center", fontsize=7, color=colour)
    return figure


def _worst(prepared: Prepared, result: Evaluation) -> tuple[Array, Array]:
    """Wrong answers, the most confident first: their rows in the split, and the probabilities of the answers."""
    truth = prepared.test.targets().astype(np.int64)
    predicted, probabilities = result.answers["class_id"], result.answers["probabilities"]
    wrong = np.flatnonzero(predicted != truth)
    confidence = probabilities[wrong, predicted[wrong]]
    order = np.argsort(-confidence, kind="stable")
    return wrong[order], confidence[order]


def _mistakes(prepared: Prepared, result: Evaluation, source: str) -> Figure | None:
    """The images whose wrong answers had the highest confidence."""
    places, _ = _worst(prepared, result)
    if not len(places) or prepared.dataset.kind != "images":
        return None
    share = len(places) / len(prepared.test)
    title = f"The most confident of {len(places):,} mistakes: {share:.1%} of {source}"
    return _answered(prepared, result, places[:MISTAKES], title)


def _answers(prepared: Prepared, result: Evaluation, source: str) -> Figure | None:
    """All test images, if there are no more than FEW."""
    count = len(prepared.test) if prepared.dataset.kind == "images" else pictures.FEW + 1
    return _answered(prepared, result, np.arange(count), f"All images of {source}") if count <= pictures.FEW else None


def _answered(prepared: Prepared, result: Evaluation, places: Array, title: str) -> Figure:
    """Test images, each with the answer, its probability and the true class."""
    labels, truth = prepared.assets.labels, prepared.test.targets().astype(np.int64)
    predicted, probabilities = result.answers["class_id"], result.answers["probabilities"]
    images = pictures.rgb(np.asarray(prepared.dataset.test.x[places]))
    tiles = []
    for i, place in enumerate(places):
        of_answer, of_truth = probabilities[place, predicted[place]], probabilities[place, truth[place]]
        answer, true = _short(labels[int(predicted[place])]), _short(labels[int(truth[place])])
        colour = ACCENT if predicted[place] == truth[place] else SECOND
        tiles.append(_Tile(images[i], f"{answer} {of_answer:.0%}\ntrue: {true} {of_truth:.0%}", colour))
    return _tiled(tiles, 5, title)


def _text_mistakes(prepared: Prepared, result: Evaluation, source: str) -> Figure | None:
    """The texts whose wrong answers had the highest confidence. Shows their ends, as the network reads those."""
    places, confidence = _worst(prepared, result)
    if not len(places):
        return None
    labels, truth = prepared.assets.labels, prepared.test.targets()
    rows = places[:ANSWERED_TEXTS]
    figure = Figure((8, 1.15 * len(rows) + 0.4))
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_ylim(len(rows), 0)
    for i, place in enumerate(rows):
        text = prepared.dataset.test.x[place].decode(errors="replace").replace("<br />", " ").replace("$", "\\$")
        end = text if len(text) < 330 else "… " + text[-330:].split(" ", 1)[-1]
        predicted = labels[int(result.answers["class_id"][place])]
        title = f"{predicted} {confidence[i]:.1%}, true: {labels[int(truth[place])]}"
        axes.text(0, i + 0.12, title, color=SECOND, fontweight="bold", va="top")
        axes.text(0, i + 0.34, "\n".join(textwrap.wrap(end, 118)[:4]), va="top", fontsize=8)
    share = len(places) / len(prepared.test)
    axes.set_title(f"The most confident of {len(places):,} mistakes: {share:.1%} of {source}", loc="left")
    return figure


def _reconstructions(prepared: Prepared, result: Evaluation, source: str) -> Figure:
    made = result.answers["reconstructions"]
    across = 12
    shown = made[: 4 * across]
    images = np.asarray(prepared.dataset.test.x[: len(shown)])
    stacks, title, m = [images, shown], f"{source}: image above, reconstruction below", result.metrics
    if "mended" in result.answers:
        stacks = [images, *(result.answers[name][: len(shown)] for name in ("corrupted", "mended"))]
        before, after = m["corrupted_squared_error"], m["mended_squared_error"]
        title = f"{source}: image, corrupted, mended, from above"
        title += f"\nsquared error: corrupted {before:.4f}, mended {after:.4f}"
    else:
        title += f"; ELBO {m['elbo']:.1f} nats" if "elbo" in m else ""
        for name, error in m.get("baselines", {}).items():
            title += f"\nsquared error {m['squared_error']:.4f}; {name}: {error:.4f}"
    image = pictures.interleaved(stacks, across)
    return _picture(image, title)


def _samples(prepared: Prepared, result: Evaluation, source: str) -> Figure:
    real = np.asarray(prepared.dataset.test.x[: len(result.answers["samples"])])
    image = np.concatenate(
        [
            pictures.grid(result.answers["samples"]),
            np.full((len(pictures.grid(real)), 8, 3), 255, np.uint8),
            pictures.grid(real),
        ],
        axis=1,
    )
    title = f"left: generated; right: {source}"
    if "diversity" in result.metrics:
        title += f"\ndiversity {result.metrics['diversity']:.2f} (real images: 1)"
    if "frechet_distance" in result.metrics:
        m = result.metrics
        title += (
            f"; Fréchet distance {m['frechet_distance']:.2f} "
            f"(floor {m['frechet_floor']:.2f}, ceiling {m['frechet_ceiling']:.0f})"
        )
    return _picture(image, title)


def _latent(result: Evaluation, source: str) -> Figure:
    """What noise decodes to, beside a walk through the latent space between four images."""
    walk, samples = result.answers["walk"], result.answers["samples"]
    side = round(len(walk) ** 0.5)
    right, drawn = pictures.grid(walk, side), pictures.grid(samples[: len(walk)], side)
    left = np.full_like(right, 255)  # of a small test split there are fewer samples
    left[: len(drawn), : drawn.shape[1]] = drawn
    image = np.concatenate([left, np.full((len(left), 8, 3), 255, np.uint8), right], axis=1)
    return _picture(
        image, f"left: codes drawn from N(0, 1), decoded\nright: between the codes of four images, {source}"
    )


def _filters(prepared: Prepared, result: Evaluation, source: str) -> Figure:
    """Test images in the first column, each with what the filters make of it."""
    images = np.asarray(prepared.dataset.test.x[:FILTERED])
    columns = {"image": images, **result.answers}
    title = f"{source}: {', '.join(columns)}"
    return _picture(pictures.columns(*(stack[:FILTERED] for stack in columns.values())), title)


def _masks(prepared: Prepared, result: Evaluation, source: str) -> Figure:
    """Image, true mask and predicted mask of test images from the worst to the best."""
    images, truth = np.asarray(prepared.dataset.test.x), prepared.test.targets()
    predicted = result.answers["class_map"]
    classes = len(prepared.assets.labels)
    each = np.array(
        [
            np.nan_to_num(metrics.mean_iou(metrics.confusion_matrix(p, t, classes), background=classes == 1), nan=1)
            for p, t in zip(predicted, truth, strict=True)
        ]
    )
    order = np.argsort(each)
    chosen = order[np.unique(np.linspace(0, len(order) - 1, 6).round().astype(int))]
    each_class = ", ".join(f"{label} {iou:.3f}" for label, iou in list(result.metrics["class_iou"].items())[:LISTED])
    title = f"{source}: mean IoU {result.metrics['mean_iou']:.3f} ({each_class})"
    simple = ", ".join(f"{name} {value:.3f}" for name, value in result.metrics.get("baselines", {}).items())
    title += f"\nbaselines: {simple}\nfrom the worst image to the best, brightness stretched"
    tiles = []
    for place in chosen:
        image = pictures.stretched(images[place])[None]
        tiles += [
            _Tile(image[0], "image"),
            _Tile(pictures.overlay(image, truth[place][None])[0], "true"),
            _Tile(pictures.overlay(image, predicted[place][None])[0], f"predicted, IoU {each[place]:.2f}"),
        ]
    return _tiled(tiles, 3, title)


@dataclass(frozen=True)
class _Tile:
    """An image uint8 [h, w, 3] with the words above it."""

    image: Array
    words: str
    colour: str = INK


def _tiled(tiles: Sequence[_Tile], across: int, title: str) -> Figure:
    """Images of one size in rows, each below its words, at the scale of `_whole`."""
    dpi = mpl.rcParams["figure.dpi"]
    scale = _whole(TILE * dpi / max(tiles[0].image.shape[:2]))
    height, width = (round(scale * side) for side in tiles[0].image.shape[:2])
    across, down = min(across, len(tiles)), -(-len(tiles) // across)
    above = round(LINE * dpi * (title.count("\n") + 1))
    words = round(LINE * dpi * max(tile.words.count("\n") + 1 for tile in tiles))
    wide, gap = max(width, round(TILE * dpi)), round(SPACE * dpi)  # room for the words above small images
    total = across * wide + (across - 1) * gap, above + down * (words + height) + (down - 1) * gap
    figure = Figure((total[0] / dpi, total[1] / dpi))
    figure.text(0, 1, title, fontsize=10, va="top")
    for i, tile in enumerate(tiles):
        left, top = (i % across) * (wide + gap), above + (i // across) * (words + height + gap) + words
        place = (left / total[0], 1 - (top + height) / total[1], width / total[0], height / total[1])
        axes = figure.add_axes(place)
        axes.imshow(tile.image, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        axes.set_title(tile.words, fontsize=8, color=tile.colour, loc="left", pad=4)
    return figure


def _whole(scale: float) -> float:
    """The scale at which an image is drawn: one that is no whole number would draw some rows and columns wider than
    others; only images that are larger than the place for them are scaled by one.
    """
    return int(scale) if scale >= 1 else scale


def _picture(image: Array, title: str) -> Figure:
    """An image below its title, each pixel a square of as many pixels as the page has room for."""
    height, width, _ = image.shape
    dpi = mpl.rcParams["figure.dpi"]
    scale = _whole(min(PAGE[0] * dpi / width, PAGE[1] * dpi / height))
    above = round(LINE * dpi * (title.count("\n") + 1))  # pixels, for the title
    across, down = round(scale * width), round(scale * height)
    figure = Figure((across / dpi, (down + above) / dpi))
    axes = figure.add_axes((0, 0, 1, down / (down + above)))
    axes.imshow(image, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    axes.set_title(title, loc="left")
    return figure


def _short(label: str) -> str:
    return textwrap.shorten(label, 14, placeholder="…")


Draw = Callable[[Prepared, Evaluation, str], Any]
_BY_TASK: dict[Task, dict[str, Draw]] = {
    "classify": {"confusion.png": _confusion, "mistakes.png": _mistakes, "answers.png": _answers},
    "sentiment": {"confusion.png": _confusion, "mistakes.png": _text_mistakes},
    "reconstruct": {"reconstructions.png": _reconstructions},
    "generate": {"density.png": density},
    "segment": {"masks.png": _masks},
    "regress": {"scatter.png": scatter, "descents.png": descents},
    "filter": {"filtered.png": _filters},
}
