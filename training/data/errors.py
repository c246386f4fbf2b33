"""The one error of this package."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be had or read: one sentence that names the file and says what to do."""
