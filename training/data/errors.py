"""The error of this package, and words for its sentences."""

from __future__ import annotations


class DataError(ValueError):
    """Raised when data cannot be found, fetched or read: one sentence that names the file and says what to do.

    `ladle train` and `ladle data` print it and exit with 1.
    """


def counted(count: int, noun: str) -> str:
    """A number of things in words: 1 row, 2 rows."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
