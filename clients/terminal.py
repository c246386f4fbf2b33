"""What a terminal can show: colour, bars, tables, and pictures where its protocol is announced."""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from PIL import Image

BLOCKS = " ▏▎▍▌▋▊▉█"
"""A cell filled by eighths."""
CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
KITTY_CHUNK = 4096
"""Bytes of base64 that one escape sequence of kitty's protocol may carry."""


def coloured(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that wants colour (NO_COLOR and TERM=dumb say no)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    """`text` in a colour or weight of CODES, or as it is where colour is not wanted."""
    return f"\x1b[{CODES[style]}m{text}\x1b[0m" if coloured(stream or sys.stdout) else text


def bar(share: float, width: int = 24, stream: TextIO | None = None) -> str:
    """`share` in [0, 1] as a bar of `width` cells; hashes where the stream cannot write blocks."""
    share = min(max(share, 0.0), 1.0)
    encoding = (stream or sys.stdout).encoding or "ascii"
    try:
        BLOCKS.encode(encoding)
    except UnicodeEncodeError:
        return ("#" * round(share * width)).ljust(width)
    full, eighths = divmod(round(share * width * 8), 8)
    return (BLOCKS[8] * full + (BLOCKS[eighths] if eighths else "")).ljust(width)


def bars(rows: Sequence[tuple[str, float]], width: int = 24, stream: TextIO | None = None) -> str:
    """A line per label and probability, the first one painted."""
    column = max((len(label) for label, _ in rows), default=0)
    lines = []
    for number, (label, share) in enumerate(rows):
        drawn = paint(bar(share, width, stream), "green" if number == 0 else "blue", stream)
        lines.append(f"  {label:<{column}}  {drawn}  {share:6.1%}")
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]], styles: Mapping[str, str] | None = None) -> str:
    """Rows in columns; the first row is the heading. A cell that is a key of `styles` is painted so."""
    styles = {**dict.fromkeys(filter(None, rows[0]), "bold"), **(styles or {})}
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        padded = [(cell, cell.ljust(width)) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(paint(text, styles[cell]) if cell in styles else text for cell, text in padded).rstrip())
    return "\n".join(lines)


def protocol(environment: dict[str, str] | None = None) -> str | None:
    """`kitty` or `iterm` where the terminal announces that protocol for pictures, else None."""
    environment = dict(os.environ) if environment is None else environment
    if environment.get("TMUX") or environment.get("TERM", "").startswith("screen"):
        return None
    if environment.get("KITTY_WINDOW_ID") or environment.get("TERM") in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    if environment.get("TERM_PROGRAM") in ("iTerm.app", "WezTerm"):
        return "iterm"
    return None


def show(image: Image.Image, stream: TextIO | None = None) -> bool:
    """Write the picture into the terminal; False where that is not possible."""
    stream = stream or sys.stdout
    kind = protocol() if stream.isatty() else None
    if kind is None:
        return False
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    stream.write(escape(buffer.getvalue(), kind) + "\n")
    stream.flush()
    return True


def escape(png: bytes, kind: str) -> str:
    """The escape sequence that draws a PNG in the protocol `kind`."""
    data = base64.b64encode(png).decode()
    if kind == "iterm":
        return f"\x1b]1337;File=inline=1;size={len(png)}:{data}\a"
    chunks = [data[i : i + KITTY_CHUNK] for i in range(0, len(data), KITTY_CHUNK)]
    more = [f"m={int(i + 1 < len(chunks))}" for i in range(len(chunks))]
    more[0] = f"a=T,f=100,{more[0]}"
    return "".join(f"\x1b_G{keys};{chunk}\x1b\\" for keys, chunk in zip(more, chunks, strict=True))
