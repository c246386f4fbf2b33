"""A picture of gradient descents: their paths over the contour lines of the function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ladle.clients.wire.arrays import Array

SIZE = 640
"""Pixels of each side of the picture."""
FINE = 2
"""The picture is drawn this many times larger and then reduced, so that lines have smooth edges."""
GRID = 129
"""The function is evaluated on a grid of this many points on each side."""
BANDS = 16
ROOM = 1.35
"""The axes reach this many times as far from the origin as the farthest point of a path."""
LOW, HIGH = np.array([24, 42, 92]), np.array([226, 236, 240])
LINE, PATH, TEXT = (255, 255, 255), (242, 140, 40), (20, 20, 20)


def reach(paths: Array) -> float:
    """The end of the axes, from -reach to reach, that holds the finite points of paths float32 [b, steps + 1, 2]."""
    return ROOM * float(np.abs(paths[np.isfinite(paths)]).max(initial=1.0))


def from_starts(starts: Array, paths: Array) -> Array:
    """Paths float32 [b, steps + 1, 2] from starts float32 [b, 2]; a path that diverged keeps only its start."""
    lost = ~np.isfinite(paths[:, -1:]).all(axis=-1, keepdims=True)  # [b, 1, 1]
    return np.concatenate([starts[:, None], np.where(lost, np.nan, paths[:, 1:])], axis=1)


def grid(reach: float) -> Array:
    """The points at which the function is evaluated, float32 [GRID², 2], row by row from the upper left."""
    axis = np.linspace(-reach, reach, GRID, dtype=np.float32)
    x, y = np.meshgrid(axis, axis[::-1])
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def drawn(paths: Array, value: Callable[[Array], Array] | None = None) -> Image.Image:
    """Paths float32 [b, steps + 1, 2] over the contours of `value` (float32 [n, 2] -> [n]), or over a plain background.

    A ring marks a start, a dot the end of a descent. Points that are not finite are left out. Contour lines are spaced
    by the logarithm of the height above the lowest point of the picture, and are closer where the function is steeper.
    """
    far = reach(paths)
    side = SIZE * FINE
    heights = None if value is None else np.asarray(value(grid(far)), np.float64).reshape(GRID, GRID)
    picture = _ground(heights, side) if heights is not None else Image.new("RGB", (side, side), tuple(HIGH.tolist()))
    draw = ImageDraw.Draw(picture)
    for path in paths:
        points = [_place(point, far, side) for point in path if np.isfinite(point).all()]
        if len(points) > 1:
            draw.line(points, LINE, 7 * FINE, "curve")
            draw.line(points, PATH, 4 * FINE, "curve")
            _dot(draw, points[-1], 7 * FINE, PATH)
        if points:
            _dot(draw, points[0], 7 * FINE, None)
    picture = picture.resize((SIZE, SIZE), Image.Resampling.BOX)
    _ticks(picture, far)
    return picture


def _ground(heights: Array, side: int) -> Image.Image:
    """Bands of colour from LOW to HIGH, with a line between neighbours."""
    finite = np.where(np.isfinite(heights), heights, np.nanmax(heights[np.isfinite(heights)], initial=0.0))
    # Linear bands would all lie on the steep walls and leave the valley with the minimum empty.
    scaled = np.log1p(finite - finite.min())
    smooth = Image.fromarray(scaled.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    level = np.asarray(smooth) * np.float32(BANDS / (scaled.max() or 1.0))
    band = np.clip(level, 0, BANDS - 1).astype(np.uint8)
    share = np.linspace(0, 1, BANDS)[:, None]
    pixels = (LOW * (1 - share) + HIGH * share).round().astype(np.uint8)[band]
    edge = np.zeros(band.shape, bool)
    edge[1:] |= band[1:] != band[:-1]
    edge[:, 1:] |= band[:, 1:] != band[:, :-1]
    pixels[edge] = pixels[edge] // 2 + 127
    return Image.fromarray(pixels)


def _place(point: Array, far: float, side: int) -> tuple[float, float]:
    x, y = (float(number) for number in point)
    return (x + far) / (2 * far) * (side - 1), (far - y) / (2 * far) * (side - 1)


def _dot(draw: ImageDraw.ImageDraw, at: tuple[float, float], radius: int, fill: tuple[int, int, int] | None) -> None:
    box = (at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius)
    draw.ellipse(box, fill or (255, 255, 255), LINE if fill else PATH, 2 * FINE)


def _ticks(picture: Image.Image, far: float) -> None:
    """Labels the lower and the left edge with round numbers."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for number in _round_numbers(far):
        text = f"{number:g}"
        x, y = _place(np.array([number, number]), far, SIZE)
        _label(draw, (x - draw.textlength(text, font) / 2, SIZE - 20), text, font)
        _label(draw, (6, y - 8), text, font)


def _label(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, font: Any) -> None:
    draw.text(at, text, fill=TEXT, font=font, stroke_width=2, stroke_fill=LINE)


def _round_numbers(far: float) -> Sequence[float]:
    """About seven multiples of 1, 2 or 5 times a power of ten, well within [-far, far]."""
    rough = far / 3
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * next(each for each in (1, 2, 5, 10) if each * power >= rough)
    last = int(0.93 * far / step)
    return [float(step * number) for number in range(-last, last + 1)]
