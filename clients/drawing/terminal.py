"""Text for terminals: colour, bars, tables, progress, and text that is redrawn in place."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TextIO

BLOCKS = " ▏▎▍▌▋▊▉█"
"""A cell filled by 0 to 8 eighths."""
CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def coloured(stream: TextIO) -> bool:
    """Whether to write colour: `stream` is a terminal, and neither NO_COLOR nor TERM=dumb is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def plain(text: str) -> str:
    """`text` with its control characters escaped, so that a label or an error cannot move the cursor."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    """`text` with control characters escaped, in a style of CODES if `stream` shows colour (default: stdout)."""
    text = plain(text)
    return f"\x1b[{CODES[style]}m{text}\x1b[0m" if coloured(stream or sys.stdout) else text


def bar(share: float, width: int = 24, stream: TextIO | None = None) -> str:
    """`share` in [0, 1] as a bar of `width` cells, made of hashes if the stream cannot write blocks."""
    share = min(max(share, 0.0), 1.0)
    encoding = (stream or sys.stdout).encoding or "ascii"
    try:
        BLOCKS.encode(encoding)
    except UnicodeEncodeError:
        return ("#" * round(share * width)).ljust(width)
    full, eighths = divmod(round(share * width * 8), 8)
    return (BLOCKS[8] * full + (BLOCKS[eighths] if eighths else "")).ljust(width)


def bars(rows: Sequence[tuple[str, float]], width: int = 24, stream: TextIO | None = None) -> str:
    """One line for each label and its probability; the first bar is green."""
    rows = [(plain(label), share) for label, share in rows]
    column = max((len(label) for label, _ in rows), default=0)
    lines = []
    for number, (label, share) in enumerate(rows):
        drawn = paint(bar(share, width, stream), "green" if number == 0 else "blue", stream)
        lines.append(f"  {label:<{column}}  {drawn}  {share:6.1%}")
    return "\n".join(lines)


NARROWEST = 20
"""Cells in which a last column is still wrapped."""


def columns() -> int:
    """Cells of a line: those of the terminal, or 80 in a pipe."""
    return shutil.get_terminal_size().columns


def table(rows: Sequence[Sequence[str]], styles: Mapping[str, str] | None = None) -> str:
    """Rows in columns; the first row is the heading. The last column is wrapped between words to fit the terminal.

    styles  gives cells with a certain text a style of CODES
    """
    rows = [[plain(cell) for cell in row] for row in rows]
    styles = {**dict.fromkeys(filter(None, rows[0]), "bold"), **(styles or {})}
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    before = sum(widths[:-1]) + 2 * len(widths[:-1])
    lines = []
    for row in rows:
        first, *more = wrapped(row[-1], before)
        padded = [(cell, cell.ljust(width)) for cell, width in zip([*row[:-1], first], widths, strict=True)]
        lines.append("  ".join(paint(text, styles[cell]) if cell in styles else text for cell, text in padded).rstrip())
        lines += [" " * before + line for line in more]
    return "\n".join(lines)


def wrapped(text: str, before: int) -> list[str]:
    """The text as lines that fit behind `before` cells, broken between words; one line at least."""
    room = max(NARROWEST, columns() - before)
    return textwrap.wrap(text, room, break_on_hyphens=False, break_long_words=False) or [""]


def is_live(stream: TextIO) -> bool:
    """Whether text on the stream can be redrawn in place."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Screen:
    """Text that is redrawn in place. It does not flicker, because lines are overwritten before they are cleared."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines = 0
        stream.write("\x1b[?25l")  # hide the cursor

    def show(self, text: str) -> None:
        size = shutil.get_terminal_size()
        lines = [_cut(line, size.columns) for line in text.splitlines()][: max(1, size.lines - 1)]
        up = f"\x1b[{self._lines}A\r" if self._lines else ""
        self._stream.write(up + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
        self._stream.flush()
        self._lines = len(lines)

    def close(self) -> None:
        self._stream.write("\x1b[?25h")
        self._stream.flush()


def _cut(line: str, width: int) -> str:
    """The line in at most `width` cells; a line that is cut loses its colours."""
    plain = _ESCAPES.sub("", line)
    return line if len(plain) <= width else plain[: width - 1] + "…"


class Progress:
    """A progress bar on stderr; nothing if stderr is not a terminal.

    with Progress("measuring", 10.0) as progress:
        progress.at(2.5)
    """

    PAUSE_S = 0.1

    def __init__(self, what: str, total: float, stream: TextIO | None = None) -> None:
        self._what, self._total = what, total
        self._stream = stream or sys.stderr
        self._live = is_live(self._stream)
        self._next = 0.0

    def at(self, done: float, note: str = "") -> None:
        """Show that `done` of the total is done, at most every PAUSE_S seconds."""
        now = time.monotonic()
        if not self._live or (now < self._next and done < self._total):
            return
        self._next = now + self.PAUSE_S
        share = done / self._total if self._total else 1.0
        text = f"{self._what}  {bar(share, 24, self._stream)}  {min(share, 1):4.0%}  {plain(note)}"
        self._stream.write("\r" + _cut(text, columns()) + "\x1b[K")
        self._stream.flush()

    def __enter__(self) -> Progress:
        self.at(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def print_error(command: str, error: OSError | ValueError | str) -> None:
    """One line on stderr: `ladle classify: shoe.png: No such file or directory`."""
    said = str(error)
    if isinstance(error, OSError) and error.filename:
        said = f"{error.filename}: {error.strerror}"
    print(f"{paint(f'{command}:', 'red', sys.stderr)} {plain(said)}", file=sys.stderr)
