"""The error of this package."""

from __future__ import annotations


class DataError(ValueError):
    """Raised when data cannot be found, fetched or read: one sentence that names the file and says what to do.

    `ladle train` and `ladle data` print it and exit with 1.
    """
