"""A text as words and what stands between them; a text without one of its words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# What Keras's tokenizer takes for the end of a word, and the line break of the reviews that it learned from.
_BETWEEN = re.compile(r"(?:<br />|[\s!\"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~])+")


@dataclass(frozen=True)
class Piece:
    """A part of a text. `is_word`: a word, else what stands between two."""

    text: str
    is_word: bool


def pieces(text: str) -> list[Piece]:
    """The text in parts; joined, they give it back."""
    found, end = [], 0
    for gap in _BETWEEN.finditer(text):
        if gap.start() > end:
            found.append(Piece(text[end : gap.start()], True))
        found.append(Piece(gap[0], False))
        end = gap.end()
    return found + ([Piece(text[end:], True)] if end < len(text) else [])


def explained(parts: Sequence[Piece], limit: int) -> list[int]:
    """Which parts are left out in turn: the last `limit` words. A long text is cut at its start before it is read."""
    words = [position for position, part in enumerate(parts) if part.is_word]
    return words[-limit:] if limit else []


def without(parts: Sequence[Piece], position: int) -> str:
    """The text without one of its words."""
    return "".join(part.text for other, part in enumerate(parts) if other != position)
