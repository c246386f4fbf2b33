"""Shows the progress of a fetch on stderr: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Update = Callable[[int], None]
"""Called with the number of bytes fetched so far."""


class Progress(Protocol):
    """Where a fetch reports to: messages, and a bar for a download of known size."""

    def say(self, text: str) -> None: ...

    def bar(self, text: str, total_bytes: int) -> AbstractContextManager[Update]: ...


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        pass

    @contextmanager
    def bar(self, text: str, total_bytes: int) -> Iterator[Update]:
        yield lambda done: None


class Terminal:
    """Prints lines on stderr; if it is a terminal, a bar with rate and remaining time."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def bar(self, text: str, total_bytes: int) -> Iterator[Update]:
        if not sys.stderr.isatty():
            started = time.monotonic()
            self.say(f"{text} ({size(total_bytes)}) ...")
            yield lambda done: None
            self.say(f"{text}: done in {time.monotonic() - started:.1f} s")
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(text, total=total_bytes)
            yield lambda done: progress.update(task, completed=min(done, total_bytes))
            progress.update(task, completed=total_bytes)


def size(size_bytes: int) -> str:
    """A size in bytes for people: 30900652 -> '30.9 MB'."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
