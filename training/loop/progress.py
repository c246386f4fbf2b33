"""Progress output of a training run on stderr.

A terminal gets a line for each epoch and below it a live line. A file gets the first and the last epoch, and between
them a line every 15 seconds.
"""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol

EVERY_SECONDS = 15.0
"""Time between lines when stderr is not a terminal."""

WIDE = 100
"""Columns from which a terminal has room for two metrics beside the bar."""


class Meter(Protocol):
    """Where a training loop reports its progress."""

    def say(self, text: str) -> None:
        """Print a line."""

    def epoch(self, number: int, line: str) -> None:
        """Report a complete epoch (from 1) in a line; a meter may leave some out."""

    def step(self, epoch: int, step: int, figures: Mapping[str, float], rate: float, left_seconds: float) -> None:
        """Report the epoch (from 1), the steps done of it, examples a second, and the run's remaining time."""


class Silent:
    """Prints nothing."""

    def say(self, text: str) -> None:
        pass

    def epoch(self, number: int, line: str) -> None:
        pass

    def step(self, epoch: int, step: int, figures: Mapping[str, float], rate: float, left_seconds: float) -> None:
        pass


class Lines:
    """Prints plain lines."""

    def __init__(self, epochs: int, steps: int) -> None:
        self.epochs, self.steps, self._last = epochs, steps, time.monotonic()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def epoch(self, number: int, line: str) -> None:
        if number in (1, self.epochs) or time.monotonic() - self._last >= EVERY_SECONDS:
            self._last = time.monotonic()
            self.say(line)

    def step(self, epoch: int, step: int, figures: Mapping[str, float], rate: float, left_seconds: float) -> None:
        if time.monotonic() - self._last < EVERY_SECONDS:
            return
        self._last = time.monotonic()
        self.say(
            f"  epoch {epoch}/{self.epochs}  step {step}/{self.steps}  {shown(figures)}  {speed(rate, left_seconds)}"
        )


class Bar(Lines):
    """Redraws one line: a bar, metrics, speed and remaining time."""

    def __init__(self, epochs: int, steps: int) -> None:
        super().__init__(epochs, steps)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("  epoch {task.fields[epoch]}"), BarColumn(20), TextColumn("{task.fields[text]}"))
        self._progress = Progress(*columns, console=Console(stderr=True, highlight=False), transient=True)
        self._task = self._progress.add_task("", total=steps * epochs, epoch=f"1/{epochs}", text="first step ...")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, soft_wrap=True)

    def epoch(self, number: int, line: str) -> None:
        self.say(line)

    def step(self, epoch: int, step: int, figures: Mapping[str, float], rate: float, left_seconds: float) -> None:
        done = (epoch - 1) * self.steps + step
        room = 2 if self._progress.console.width >= WIDE else 1
        text = f"{shown(dict(list(figures.items())[:room]))}  {speed(rate, left_seconds)}"
        self._progress.update(self._task, completed=done, epoch=f"{epoch}/{self.epochs}", text=text)


def meter(epochs: int, steps: int) -> Lines:
    """A live line when stderr is a terminal, plain lines otherwise."""
    return Bar(epochs, steps) if sys.stderr.isatty() else Lines(epochs, steps)


def shown(figures: Mapping[str, float]) -> str:
    """{"loss": 0.41234} -> 'loss 0.4123'. Values that are not finite say nothing, and are left out."""
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items() if math.isfinite(value))


def epoch_line(
    number: int, epochs: int, figures: Mapping[str, float], first: Sequence[str], seconds: float, is_best: bool
) -> str:
    """An epoch in a line of the terminal's width: its time, the figures `first`, and others as far as there is room."""
    order = [name for name in dict.fromkeys((*first, *figures)) if name in figures]
    line = f"  epoch {number:>{len(str(epochs))}}/{epochs}  {clock(seconds):>7}"
    for text in (shown({name: figures[name]}) for name in order):
        if text and len(line) + len(text) + 8 <= columns():  # 8: room for the mark
            line += f"  {text}"
    return line + ("  best" if is_best else "")


def columns() -> int:
    """The width of the terminal; 80 in a file."""
    return shutil.get_terminal_size().columns


def fact(name: str, text: str) -> str:
    """`  data      text`, with the text wrapped between words."""
    indent = " " * 12
    return textwrap.fill(
        text,
        max(60, columns()),
        initial_indent=f"  {name:<10}",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def speed(rate: float, left_seconds: float) -> str:
    """Examples a second and remaining time: '10 examples/s  5.0 s left'."""
    return f"{rate:,.0f} examples/s  {clock(left_seconds)} left"


def clock(seconds: float) -> str:
    """93.4 -> '1:33', 9.26 -> '9.3 s'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Phases:
    """The durations of the parts of a run. Each part lasts until the next one begins; a part may occur twice."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._name, self._started = "", time.monotonic()

    def begin(self, name: str) -> None:
        """End the current part, if there is one, and begin another."""
        now = time.monotonic()
        if self._name:
            self._seconds[self._name] = self._seconds.get(self._name, 0) + now - self._started
        self._name, self._started = name, now

    def __str__(self) -> str:
        """End the current part, and list all: 'data 1.2 s, train 4:05; 4:06 in all'."""
        self.begin("")
        each = ", ".join(f"{name} {clock(seconds)}" for name, seconds in self._seconds.items())
        return f"{each}; {clock(sum(self._seconds.values()))} in all"
