"""What goes wrong in training, in one sentence: what came, what was wanted, what to do."""

from __future__ import annotations


class TrainingError(Exception):
    """The work failed."""


class UsageError(TrainingError):
    """It was asked for wrongly: an unknown option, a value of the wrong type, a preset that is not there."""


class InterruptedRunError(TrainingError):
    """Someone stopped it; a checkpoint is written, the same command goes on from there."""
