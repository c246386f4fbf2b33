"""`ladle completion`, with the parsers of every verb."""

from __future__ import annotations

from collections.abc import Sequence

from ladle.clients.cli import completion
from ladle.clients.cli.completion import build_parser as build_parser


def main(arguments: Sequence[str]) -> int:
    """Print a shell's completion script; the exit code."""
    from ladle import models
    from ladle.command import parsers

    return completion.main(arguments, parsers, models.names)
