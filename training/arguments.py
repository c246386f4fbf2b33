"""The parser of a training command: its errors are one line that begins with the command."""

from __future__ import annotations

import argparse
import difflib
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

MISUSED = 2


KINDS: dict[Any, str] = {int: "a whole number", float: "a number"}
"""What argparse's own types expect; of others, it is the first sentence of their docstring."""


class Help(argparse.RawDescriptionHelpFormatter):
    """Wraps the lines of a description that are too long for the terminal; indented lines, as of examples, stay."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = (line if line.startswith(" ") else textwrap.fill(line, width) for line in text.splitlines())
        return "\n".join(indent + line for line in lines)


class Parser(argparse.ArgumentParser):
    """argparse's parser; an unknown option is answered with near ones. Exit code 2."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"formatter_class": Help, **options})

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown == message:
            self.exit(MISUSED, f"{self.prog}: {message}; see {self.prog} --help\n")
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
        advice = _hint(str(value), choices, f"expected one of {', '.join(choices)}")
        raise argparse.ArgumentError(action, f"got {value!r}; {advice}")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Exit with the error for arguments that this parser does not know."""
        option = unknown[0].partition("=")[0]
        if not option.startswith("-"):
            places = [str(action.metavar or action.dest) for action in self._get_positional_actions()]
            takes = " ".join(places) or "options only"
            self.error(f"unexpected argument{'s' if len(unknown) > 1 else ''} {' '.join(unknown)}; expected {takes}")
        known = [known for action in self._actions for known in action.option_strings]
        advice = _hint(option, known, f"see {self.prog} --help")
        self.exit(MISUSED, f"{self.prog}: unknown option {option}; {advice}\n")


def _hint(name: str, known: Sequence[str], otherwise: str) -> str:
    """The known names that are most like this one, or `otherwise`."""
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.75)
    return f"did you mean {' or '.join(near)}?" if near else otherwise
