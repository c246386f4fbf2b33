"""Generated data sets, for tests and for demonstrations without data. They are never reported as real data.

The same seed gives the same data. All of them can be learned, so a falling loss is meaningful.
"""

from __future__ import annotations

import colorsys

import numpy as np

from ladle.training.data.dataset import Array, Contents, Kind, deal
from ladle.training.data.errors import DataError
from ladle.training.data.registry import Entry

# Seven-segment digits: end points of the segments a to g in the box [-1, 1] x [-1, 1], and the segments of each digit.
SEGMENTS = np.array(
    [
        [-0.5, -1, 0.5, -1],
        [0.5, -1, 0.5, 0],
        [0.5, 0, 0.5, 1],
        [-0.5, 1, 0.5, 1],
        [-0.5, 0, -0.5, 1],
        [-0.5, -1, -0.5, 0],
        [-0.5, 0, 0.5, 0],
    ],
    np.float32,
)
DIGITS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")

GOOD = ["wonderful", "superb", "moving", "brilliant", "charming", "gripping", "excellent", "warm"]
BAD = ["dreadful", "boring", "clumsy", "tedious", "awful", "lifeless", "silly", "wasted"]
PLAIN = ["the", "film", "story", "actor", "scene", "plot", "music", "director", "camera", "ending", "cast", "a"]
PLAIN += ["of", "and", "in", "it", "was", "this", "with", "about", "long", "night", "city", "family", "war"]


def digits(
    seed: int, *, count: int = 1200, height: int = 28, width: int = 28, channels: int = 1, classes: int = 10
) -> Contents:
    """Seven-segment digits, shifted, slanted and noisy; every further ten classes have another colour.

    x uint8 [n, height, width, channels], y int64 [n]. DataError for more than ten classes in grey.
    """
    if classes > 10 and channels == 1:
        raise DataError(f"synthetic_digits: {classes} classes need channels=3: only ten differ in grey")
    random = np.random.default_rng([seed, 1])  # the second number gives each generator a stream of its own
    y = random.permutation(np.arange(count) % classes)
    x = np.empty((count, height, width, channels), np.uint8)
    for label in range(classes):
        of_label = np.flatnonzero(y == label)
        ink = _draw(random, DIGITS[label % 10], len(of_label), height, width)[..., None]  # [m, h, w, 1]
        if channels == 3:
            hue = (label // 10) / -(-classes // 10)
            ink = ink * np.array(colorsys.hsv_to_rgb(hue, 0.8, 1), np.float32)  # [m, h, w, 3]
        x[of_label] = np.clip(ink * 255 + random.normal(0, 12, ink.shape), 0, 255)
    labels = tuple(f"digit {k}" if k < 10 else f"digit {k % 10} colour {k // 10}" for k in range(classes))
    return Contents(*deal(x, y, seed), labels, f"seven-segment digits drawn with seed {seed}")


def _draw(random: np.random.Generator, lit: str, count: int, height: int, width: int) -> Array:
    """Ink in [0, 1]: float32 [count, height, width]."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    unit = min(height, width) * random.uniform(0.26, 0.36, (count, 1, 1)).astype(np.float32)
    shift = random.uniform(-0.08, 0.08, (2, count, 1, 1)).astype(np.float32)
    slant = random.uniform(-0.25, 0.25, (count, 1, 1)).astype(np.float32)
    v = (rows - (height - 1) / 2) / unit - shift[0] * 3  # [n, h, w]
    u = (columns - (width - 1) / 2) / unit - shift[1] * 3 + slant * v
    nearest = np.full(u.shape, np.inf, np.float32)
    for segment in lit:
        u0, v0, u1, v1 = SEGMENTS["abcdefg".index(segment)]
        along = np.clip((u - u0) * (u1 - u0) + (v - v0) * (v1 - v0), 0, 1)  # each segment is 1 long
        nearest = np.minimum(nearest, np.hypot(u - u0 - along * (u1 - u0), v - v0 - along * (v1 - v0)))
    thickness = random.uniform(0.12, 0.22, (count, 1, 1)).astype(np.float32)
    return np.asarray(1 / (1 + np.exp(np.clip((nearest - thickness) * unit * 2, -30, 30))), np.float32)


def blobs(
    seed: int, *, count: int = 60, height: int = 64, width: int = 64, channels: int = 1, classes: int = 2
) -> Contents:
    """Bright ellipses on a dark, noisy background, and their masks; each class has its own brightness.

    x uint8 [n, height, width, channels], y uint8 [n, height, width] in 0..classes-1; 0 is the background.
    """
    random = np.random.default_rng([seed, 2])
    x = np.empty((count, height, width, channels), np.uint8)
    y = np.zeros((count, height, width), np.uint8)
    rows, columns = np.mgrid[:height, :width]
    for image, mask in zip(x, y, strict=True):
        for _ in range(random.integers(3, 8)):
            radius = random.uniform(0.06, 0.18, 2) * min(height, width)
            centre = random.uniform(0, 1, 2) * (height, width)
            inside = ((rows - centre[0]) / radius[0]) ** 2 + ((columns - centre[1]) / radius[1]) ** 2 < 1
            mask[inside] = random.integers(1, classes)
        light = 40 + 170 / (classes - 1) * mask[..., None].astype(np.float32)
        image[:] = np.clip(light + random.normal(0, 15, image.shape), 0, 255)
    labels = ("background", "blob") if classes == 2 else ("background", *(f"blob {k}" for k in range(1, classes)))
    return Contents(*deal(x, y, seed), labels, f"ellipses drawn with seed {seed}")


def texts(seed: int, *, count: int = 1200, length: int = 30) -> Contents:
    """Random words, some of them positive or negative. x object [n] of bytes; y int64 [n], 1 is positive."""
    random = np.random.default_rng([seed, 3])
    y = random.permutation(np.arange(count) % 2)
    x = np.empty(count, object)
    for i, label in enumerate(y):
        words = random.choice(np.array(PLAIN, object), length)
        opinion = random.random(length) < 0.15
        opinion[random.integers(length)] = True
        words[opinion] = random.choice(GOOD if label else BAD, int(opinion.sum()))
        x[i] = " ".join(words).encode()
    return Contents(*deal(x, y, seed), ("negative", "positive"), f"words drawn with seed {seed}")


def table(seed: int, *, count: int = 500, features: int = 13) -> Contents:
    """Points of a linear function with noise. x float32 [n, features], y float32 [n]."""
    random = np.random.default_rng([seed, 4])
    x = random.normal(0, 1, (count, features)).astype(np.float32)
    y = (x @ random.normal(0, 2, features) + 20 + random.normal(0, 0.5, count)).astype(np.float32)
    columns = tuple(f"x{i}" for i in range(features))
    return Contents(*deal(x, y, seed), None, f"a linear function with noise, drawn with seed {seed}", columns)


def line(seed: int, *, count: int = 100, slope: float = 1.477, intercept: float = 0.089) -> Contents:
    """Points about a line: y = slope·x + intercept + ε, ε ~ N(0, 0.1), x ~ U(-10, 10). x float32 [n, 1], y [n]."""
    random = np.random.default_rng([seed, 5])
    x = random.uniform(-10, 10, (count, 1)).astype(np.float32)
    y = (slope * x[:, 0] + intercept + random.normal(0, 0.1, count)).astype(np.float32)
    note = f"{count} points of y = {slope:g}·x + {intercept:g} + N(0, 0.1), drawn with seed {seed}"
    return Contents(*deal(x, y, seed), None, note, ("x",))


def starts(seed: int, *, count: int = 200) -> Contents:
    """Start points for minimising a function whose minimum is 0. x float32 [n, 2] in [-5, 5], y 0."""
    random = np.random.default_rng([seed, 6])
    x = random.uniform(-5, 5, (count, 2)).astype(np.float32)
    y = np.zeros(count, np.float32)
    return Contents(*deal(x, y, seed), None, f"points in a square, drawn with seed {seed}", ("x", "y"))


def ring(seed: int, *, count: int = 100_000) -> Contents:
    """Eight Gaussians on a circle of radius 1, each with deviation 0.05. x float32 [n, 2]."""
    random = np.random.default_rng([seed, 7])
    angle = random.integers(0, 8, count) * (np.pi / 4)
    return _points(random, np.stack([np.cos(angle), np.sin(angle)], axis=1), 0.05, seed, "eight Gaussians")


def grid(seed: int, *, count: int = 100_000) -> Contents:
    """25 Gaussians on a grid from -1 to 1, each with deviation 0.03. x float32 [n, 2]."""
    random = np.random.default_rng([seed, 8])
    return _points(random, random.integers(-2, 3, (count, 2)) / 2, 0.03, seed, "25 Gaussians")


def roll(seed: int, *, count: int = 100_000) -> Contents:
    """A Swiss roll seen from above: a spiral with deviation 0.03. x float32 [n, 2]."""
    random = np.random.default_rng([seed, 9])
    turn = 1.5 * np.pi * (1 + 2 * random.random(count))
    spiral = np.stack([turn * np.cos(turn), turn * np.sin(turn)], axis=1) / 14
    return _points(random, spiral, 0.03, seed, "a Swiss roll")


def _points(random: np.random.Generator, centres: Array, deviation: float, seed: int, what: str) -> Contents:
    x = (centres + random.normal(0, deviation, centres.shape)).astype(np.float32)
    return Contents(*deal(x, None, seed), None, f"{what}, deviation {deviation:g}, drawn with seed {seed}", ("x", "y"))


def _entry(name: str, kind: Kind, description: str, generate: object) -> Entry:
    return Entry(
        name=name,
        kind=kind,
        description=f"SYNTHETIC: {description}",
        origin="drawn by Ladle, not real data",
        licence="none needed",
        splits="train 70 %, validation 10 %, test 20 %",
        layout="no files, as it is generated",
        generate=generate,  # type: ignore[arg-type]
        generated_name=name,
    )


DATASETS = [
    _entry("synthetic_digits", "images", "seven-segment digits", digits),
    _entry("synthetic_blobs", "masks", "ellipses and their masks", blobs),
    _entry("synthetic_texts", "text", "random words, some positive or negative", texts),
    _entry("synthetic_table", "table", "a linear function with noise", table),
    _entry("synthetic_line", "table", "a hundred points near a line", line),
    _entry("synthetic_starts", "table", "start points for a descent in the plane", starts),
    _entry("synthetic_ring", "points", "eight Gaussians on a circle", ring),
    _entry("synthetic_grid", "points", "25 Gaussians on a grid", grid),
    _entry("synthetic_roll", "points", "a Swiss roll", roll),
]
