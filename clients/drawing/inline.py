"""Pictures inside a terminal, by kitty's protocol, iTerm2's, sixel, or half-blocks in 24-bit colour."""

from __future__ import annotations

import base64
import io
import itertools
import os
import shutil
import sys
from collections.abc import Mapping
from typing import TextIO

import numpy as np
from PIL import Image

KITTY_CHUNK = 4096
"""Bytes of base64 in one escape sequence; kitty's protocol allows no more."""
WIDEST, HIGHEST = 80, 28
"""The most columns and lines that half-blocks take."""
SMALL_PIXELS = 168
"""Smaller pictures are enlarged by a whole factor up to this size, where a terminal shows true pixels."""
SIXEL_COLOURS = 256


def protocol(environment: Mapping[str, str] | None = None) -> str | None:
    """`kitty`, `iterm`, `sixel` or `blocks`, as the environment says what the terminal can do; None: nothing."""
    environment = os.environ if environment is None else environment
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if term in ("", "dumb") or environment.get("NO_COLOR"):
        return None
    multiplexed = environment.get("TMUX") or term.startswith(("screen", "tmux"))
    # tmux and screen drop the escape sequences of their terminal's protocol; half-blocks are plain text and pass.
    if not multiplexed:
        if environment.get("KITTY_WINDOW_ID") or term in ("xterm-kitty", "xterm-ghostty"):
            return "kitty"
        if program in ("iTerm.app", "WezTerm"):
            return "iterm"
        if "sixel" in term or term.startswith(("foot", "mlterm", "yaft", "contour")):
            return "sixel"
    if environment.get("COLORTERM") in ("truecolor", "24bit") or term.endswith("-direct"):
        return "blocks"
    return None


def show(image: Image.Image, inline: bool | None = None, stream: TextIO | None = None) -> bool:
    """Write the picture into the terminal; whether it was written.

    inline  None: if the terminal says that it can show pictures; True: otherwise with half-blocks; False: never
    """
    stream = stream or sys.stdout
    if inline is False or not stream.isatty():
        return False
    kind = protocol() or ("blocks" if inline else None)
    if kind is None:
        return False
    try:
        stream.write(drawn(image, kind, min(shutil.get_terminal_size().columns, WIDEST)) + "\n")
    except UnicodeEncodeError:  # the stream cannot write half-blocks
        return False
    stream.flush()
    return True


def drawn(image: Image.Image, kind: str, columns: int = WIDEST) -> str:
    """The picture as text for a terminal of the given kind; half-blocks are at most `columns` wide."""
    if kind == "blocks":
        return half_blocks(image, columns)
    factor = max(1, SMALL_PIXELS // max(image.size))
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    if kind == "sixel":
        return sixel(image)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return escape(buffer.getvalue(), kind)


def escape(png: bytes, kind: str) -> str:
    """The escape sequence that draws a PNG, for kitty or iTerm2."""
    data = base64.b64encode(png).decode()
    if kind == "iterm":
        return f"\x1b]1337;File=inline=1;size={len(png)}:{data}\a"
    chunks = [data[i : i + KITTY_CHUNK] for i in range(0, len(data), KITTY_CHUNK)]
    more = [f"m={int(i + 1 < len(chunks))}" for i in range(len(chunks))]
    more[0] = f"a=T,f=100,{more[0]}"
    return "".join(f"\x1b_G{keys};{chunk}\x1b\\" for keys, chunk in zip(more, chunks, strict=True))


def half_blocks(image: Image.Image, columns: int) -> str:
    """Two pixels in each cell: the upper one colours the half-block, the lower one its background."""
    width = max(1, min(image.width, columns, 2 * HIGHEST * image.width // image.height))
    height = max(2, round(image.height * width / image.width / 2) * 2)
    resample = Image.Resampling.BOX if width < image.width else Image.Resampling.NEAREST
    pixels = np.asarray(image.convert("RGB").resize((width, height), resample))  # [h, w, 3]
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        cells, last = [], ""
        for top, bottom in zip(upper.tolist(), lower.tolist(), strict=True):
            colours = f"\x1b[38;2;{top[0]};{top[1]};{top[2]};48;2;{bottom[0]};{bottom[1]};{bottom[2]}m"
            cells.append(("" if colours == last else colours) + "▀")
            last = colours
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)


def sixel(image: Image.Image) -> str:
    """DEC's sixel format: bands of six rows, a layer for each colour, repeated columns counted."""
    quantized = image.convert("RGB").quantize(SIXEL_COLOURS)
    colours = np.asarray(quantized.getpalette(), int).reshape(-1, 3) * 100 // 255
    pixels = np.asarray(quantized)
    parts = [f'\x1bPq"1;1;{image.width};{image.height}']
    parts += [f"#{i};2;{r};{g};{b}" for i, (r, g, b) in enumerate(colours.tolist())]
    weights = np.array([1, 2, 4, 8, 16, 32])
    for top in range(0, image.height, 6):
        band = pixels[top : top + 6]
        for colour in np.unique(band).tolist():
            values = ((band == colour) * weights[: len(band), None]).sum(0) + 63  # [w]
            parts.append(f"#{colour}{_runs(values)}$")
        parts.append("-")
    return "".join(parts) + "\x1b\\"


def _runs(values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> str:
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    found = [(chr(int(values[start])), end - start) for start, end in itertools.pairwise(edges)]
    return "".join(f"!{length}{sixels}" if length > 3 else sixels * length for sixels, length in found)
