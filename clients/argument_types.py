"""The parser of a verb and the types of its options, shared by the client's verbs and the gateway."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from ladle.clients.near_names import hint

KINDS: dict[Any, str] = {int: "a whole number", float: "a number"}
"""What argparse's own types expect; of others, it is the first sentence of their docstring."""


class Help(argparse.RawDescriptionHelpFormatter):
    """Wraps the lines of a description that are too long for the terminal; indented lines, as of examples, stay."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = (line if line.startswith(" ") else textwrap.fill(line, width) for line in text.splitlines())
        return "\n".join(indent + line for line in lines)


class Parser(argparse.ArgumentParser):
    """argparse's parser, whose errors are one line that begins with the verb. Exit code 2."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"formatter_class": Help, **options})

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown == message:
            self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")
        self.refuse(unknown.split(" "))

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """argparse's, whose error names what was expected in place of the function that reads it."""
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            if not error.message.startswith("invalid "):
                raise
            kind = KINDS.get(action.type) or (action.type.__doc__ or "another value").partition(".")[0]
            kind = kind[0].lower() + kind[1:]
            raise argparse.ArgumentError(action, f"got {arg_string!r}; expected {kind}") from None

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """argparse's, whose error names near choices, or all."""
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        advice = hint(str(value), choices, f"expected one of {', '.join(choices)}")
        raise argparse.ArgumentError(action, f"got {value!r}; {advice}")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Exit with the error for arguments that this parser does not know, and the option that is like the first."""
        option = unknown[0].partition("=")[0]
        if not option.startswith("-"):
            places = [str(action.metavar or action.dest) for action in self._get_positional_actions()]
            takes = " ".join(places) or "options only"
            self.error(f"unexpected argument{'s' if len(unknown) > 1 else ''} {' '.join(unknown)}; expected {takes}")
        known = [known for action in self._actions for known in action.option_strings]
        self.exit(2, f"{self.prog}: unknown option {option}; {hint(option, known, f'see {self.prog} --help')}\n")


def seconds(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text}; expected a number above 0")
    return value


def positive(text: str) -> int:
    """A whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {text}; expected at least 1")
    return value


def natural(text: str) -> int:
    """A whole number from 0 on."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"got {text}; expected at least 0")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"got {text}; expected a number from 0 to 1")
    return value
