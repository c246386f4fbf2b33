"""The chart of `ladle bench`: latency by percentile, and by second."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ladle.clients.cli.load_generator import Measured, by_second

SIZE = (1120, 460)
INK, PALE, GRID = "#1f2933", "#616e7c", "#e4e7eb"
COLOURS = {"grpc": "#0072b2", "rest": "#d55e00"}
PERCENTS = (0, 50, 90, 99, 99.9, 99.99)
Point = tuple[float, float]


def chart(results: Mapping[str, Measured], title: str) -> Image.Image:
    """RGB. Left: latency by percentile. Right: median and 99th percentile of each second."""
    sheet = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((24, 16), title, INK, ImageFont.load_default(20))
    left = _Panel(draw, (76, 92, 520, 400), "latency by percentile, ms")
    right = _Panel(draw, (636, 92, 1080, 400), "latency by second, ms: p50 (line), p99 (dashed)")
    answered = {name: result for name, result in results.items() if result.latency_s}
    most = max((len(result.latency_s) for result in answered.values()), default=1)
    # A percentile that less than half an answer lies beyond says nothing.
    shown = [percent for percent in PERCENTS if percent < 100 * (1 - 0.5 / most)]
    top = max((result.percentile_ms(shown[-1]) or 0 for result in answered.values()), default=1.0)
    left.axes((0, _nines(shown[-1]) or 1.0), (0, top), [(_nines(p), f"{p:g} %") for p in shown])
    for name, result in answered.items():
        percents = [100 * (1 - 10**-nines) for nines in np.linspace(0, _nines(shown[-1]), 200)]
        values = 1000 * np.percentile(result.latency_s, percents)
        left.line([(_nines(p), v) for p, v in zip(percents, values.tolist(), strict=True)], COLOURS[name])
    p99 = {name: by_second(result, 99) for name, result in answered.items()}
    last = max((max(seconds) for seconds in p99.values()), default=1) + 1
    top = max((max(seconds.values()) for seconds in p99.values()), default=1.0)
    ticks = range(0, last + 1, max(1, math.ceil(last / 8)))
    right.axes((0, last), (0, top), [(second, f"{second} s") for second in ticks])
    for name, result in answered.items():
        right.line([(at + 0.5, v) for at, v in by_second(result, 50).items()], COLOURS[name])
        right.line([(at + 0.5, v) for at, v in p99[name].items()], COLOURS[name], dashed=True)
    _legend(draw, results)
    return sheet


def _nines(percent: float) -> float:
    """A scale on which each further nine is as wide: 0 for 0 %, 1 for 90 %, 2 for 99 %."""
    return -math.log10(max(1 - percent / 100, 1e-9))


def _legend(draw: ImageDraw.ImageDraw, results: Mapping[str, Measured]) -> None:
    x, font = 24, ImageFont.load_default(14)
    for name, result in results.items():
        errors = sum(result.errors.values())
        text = f"{name}: {result.rate:.0f} answers per second" + (f", {errors} errors" if errors else "")
        draw.line((x, 57, x + 22, 57), COLOURS[name], 3)
        draw.text((x + 30, 48), text, INK, font)
        x += 60 + int(draw.textlength(text, font))


class _Panel:
    """A plot in the box (left, top, right, bottom)."""

    def __init__(self, draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], title: str) -> None:
        self._draw, self._box = draw, box
        self._font = ImageFont.load_default(13)
        self._x = self._y = (0.0, 1.0)
        draw.text((box[0], box[1] - 24), title, PALE, self._font)

    def axes(self, x: Point, y: Point, ticks: Sequence[tuple[float, str]]) -> None:
        """Draw the axes. x, y: their ranges; ticks: marks of the horizontal one."""
        step = _step(y[1])
        self._x, self._y = x, (y[0], step * max(1, math.ceil(y[1] / step)))
        left, _, right, bottom = self._box
        for number in range(round(self._y[1] / step) + 1):
            _, at = self._place(x[0], number * step)
            self._draw.line((left, at, right, at), GRID)
            self._draw.text((left - 8, at), f"{number * step:g}", PALE, self._font, anchor="rm")
        for value, text in ticks:
            at, _ = self._place(value, 0)
            self._draw.line((at, bottom, at, bottom + 5), PALE)
            self._draw.text((at, bottom + 9), text, PALE, self._font, anchor="ma")
        self._draw.line((left, bottom, right, bottom), PALE)

    def line(self, points: Sequence[Point], colour: str, dashed: bool = False) -> None:
        placed = [self._place(*point) for point in points]
        if len(placed) == 1:
            x, y = placed[0]
            self._draw.ellipse((x - 3, y - 3, x + 3, y + 3), None if dashed else colour, colour)
        if not dashed:
            self._draw.line(placed, colour, 2, joint="curve")
            return
        for (x0, y0), (x1, y1) in itertools.pairwise(placed):
            pieces = max(1, round(math.hypot(x1 - x0, y1 - y0) / 10))
            for i in range(pieces):
                a, b = i / pieces, (i + 0.55) / pieces
                ends = (x0 + a * (x1 - x0), y0 + a * (y1 - y0), x0 + b * (x1 - x0), y0 + b * (y1 - y0))
                self._draw.line(ends, colour, 2)

    def _place(self, x: float, y: float) -> Point:
        left, top, right, bottom = self._box
        across = (x - self._x[0]) / (self._x[1] - self._x[0])
        up = (min(y, self._y[1]) - self._y[0]) / (self._y[1] - self._y[0])
        return left + across * (right - left), bottom - up * (bottom - top)


def _step(top: float) -> float:
    """A round step for about five marks from 0 to `top`."""
    rough = max(top, 1e-3) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return float(power * min((1, 2, 5, 10), key=lambda factor: abs(factor * power - rough)))
