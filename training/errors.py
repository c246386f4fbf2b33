"""Errors of training runs. Each message says what came, what was expected and what to do."""

from __future__ import annotations


class TrainingError(Exception):
    """A run failed: a loss that is not finite, a broken checkpoint, a full disk. `ladle` exits with 1."""


class UsageError(TrainingError):
    """The request was wrong: an unknown option, a value of the wrong type, a missing preset. `ladle` exits with 2."""


class ExportError(TrainingError):
    """A model was not exported; the text says what to do. `ladle` exits with 1."""


class InterruptedRunError(TrainingError):
    """A signal stopped the run after it wrote a checkpoint; the same command continues it. `ladle` exits with 1."""
