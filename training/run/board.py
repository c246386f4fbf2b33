"""Progress of several trainings at once, on stderr: which ones run, which are done, which wait, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ladle.training.evaluate.headline import headline
from ladle.training.loop.progress import clock, shown

TAIL_BYTES = 2000


class Board:
    """Prints a line when a training starts or ends.

    expected  duration of each network in seconds, None if unknown
    at_once   how many run at once
    """

    def __init__(self, expected: Mapping[str, float | None], at_once: int) -> None:
        self.expected, self.at_once = dict(expected), at_once
        self.took: dict[str, float] = {}
        self.running: dict[str, tuple[float, Path]] = {}
        self.failed: list[str] = []
        self.stopped: list[str] = []
        self.done: list[str] = []

    def __enter__(self) -> Board:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def skipped(self, name: str, answer: Mapping[str, Any]) -> None:
        """A network that an earlier, interrupted command has trained."""
        self.done.append(name)
        self.say(f"{name}: already trained, {answer['version']}")

    def started(self, name: str, log: Path, waiting: Sequence[str]) -> None:
        self.running[name] = (time.monotonic(), log)
        self.say(f"{name}: started; log: {log}")

    def ended(self, name: str, seconds: float, answer: Mapping[str, Any], error: str, stopped: bool = False) -> None:
        """A training that ended; `stopped`: because the user asked for it."""
        _, log = self.running.pop(name)
        self.took[name] = seconds
        if error:
            (self.stopped if stopped else self.failed).append(name)
            self.say(f"{name}: {'stopped' if stopped else 'failed'} after {clock(seconds)}: {error}; log: {log}")
        else:
            self.done.append(name)
            figure = shown(headline(answer.get("metrics", {})))
            self.say(f"{name}: done in {clock(seconds)}  {figure}  {answer['version']}")
        self.say(f"  {self.summary()}")

    def refresh(self) -> None:
        """Called every second."""

    def summary(self) -> str:
        """'1 of 3 done, 1 running, 1 waiting; about 2:30 left'."""
        waiting = len(self.expected) - len(self.done) - len(self.failed) - len(self.stopped) - len(self.running)
        parts = [f"{len(self.done)} of {len(self.expected)} done"]
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        parts += [f"{len(self.stopped)} stopped"] if self.stopped else []
        parts += [f"{len(self.running)} running"] if self.running else []
        parts += [f"{waiting} waiting"] if waiting else []
        left = self.left_seconds()
        return ", ".join(parts) + (f"; about {clock(round(left))} left" if left else "")

    def left_seconds(self, now: float | None = None) -> float | None:
        """Estimated seconds until all have ended; None without any known duration.

        The expected durations come from other runs, often on other machines. They are scaled by the ratio of actual to
        expected time of the networks that have ended here.
        """
        known = [seconds for seconds in self.expected.values() if seconds]
        both = [(self.took[name], self.expected[name] or 0.0) for name in self.took if self.expected[name]]
        guessed = sum(expected for _, expected in both)
        scale = sum(took for took, _ in both) / guessed if guessed else 1.0
        usual = scale * sum(known) / len(known) if known else sum(self.took.values()) / max(1, len(self.took))
        if not usual:
            return None
        now = time.monotonic() if now is None else now
        each = []
        for name, seconds in self.expected.items():
            if name in self.done or name in self.failed:
                continue
            whole = scale * seconds if seconds else usual
            # A network that is over its time counts 5 % of it until it ends.
            each.append(max(whole - (now - self.running[name][0]), 0.05 * whole) if name in self.running else whole)
        return max([sum(each) / self.at_once, *each], default=0.0)


class LiveBoard(Board):
    """Also redraws, below those lines, the last log line of each running network."""

    def __init__(self, expected: Mapping[str, float | None], at_once: int) -> None:
        super().__init__(expected, at_once)
        from rich.console import Console
        from rich.live import Live

        self.console = Console(stderr=True, highlight=False)
        self.screen = Live(console=self.console, transient=True, auto_refresh=False)
        self.waiting: Sequence[str] = ()

    def __enter__(self) -> LiveBoard:
        self.screen.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.screen.stop()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def started(self, name: str, log: Path, waiting: Sequence[str]) -> None:
        self.waiting = waiting
        self.running[name] = (time.monotonic(), log)
        self.refresh()

    def refresh(self) -> None:
        from rich.text import Text

        now = time.monotonic()
        started = self.running.items()
        rows = [f"  {name}  {clock(round(now - start))}  {last_line(log)}" for name, (start, log) in started]
        rows += [f"  {self.summary()}"]
        rows += [f"  waiting: {', '.join(self.waiting)}"] if self.waiting else []
        self.screen.update(Text("\n".join(rows), no_wrap=True, overflow="ellipsis"), refresh=True)


def last_line(log: Path) -> str:
    """The last line of a log; reads its end only."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return lines[-1].strip() if lines else ""


def board(expected: Mapping[str, float | None], at_once: int) -> Board:
    """A board for this stderr: live on a terminal, plain lines otherwise."""
    return (LiveBoard if sys.stderr.isatty() else Board)(expected, at_once)
