"""Shell completion: every verb with its options, from the parsers themselves, through shtab."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from unittest import mock

ENABLE = {
    "bash": "ladle completion bash > ~/.local/share/bash-completion/completions/ladle",
    "zsh": 'ladle completion zsh > "${fpath[1]}/_ladle"    # a folder of $fpath; then: compinit',
    "tcsh": "ladle completion tcsh > ~/.ladle.tcsh && echo 'source ~/.ladle.tcsh' >> ~/.tcshrc",
}
MODELS = {"bash": "_ladle_models", "zsh": "_ladle_models"}
PREAMBLE = {
    # The models that are in the repository of this folder. No `compgen -W`: it would run a folder's name.
    "bash": """_ladle_models() { (CDPATH= cd model_repository 2>/dev/null && compgen -d -- "$1"); }""",
    "zsh": '_ladle_models() { compadd -- ${(f)"$(command ls model_repository 2>/dev/null)"}; }',
}


class _Parser(BaseException):
    """The parser that a verb was about to use."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def captured(run: Callable[[], object]) -> argparse.ArgumentParser | None:
    """The parser that `run` parses its arguments with, which is where it ends; None when its packages are not here."""

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        raise _Parser(parser)

    with contextlib.suppress(ModuleNotFoundError), mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            run()
        except _Parser as found:
            return found.parser
    return None


def of_verb(parser: argparse.ArgumentParser, verb: str) -> argparse.ArgumentParser:
    """The parser of one verb, where `parser` has several; else itself."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and verb in action.choices:
            found: argparse.ArgumentParser = action.choices[verb]
            return found
    return parser


def script(shell: str, verbs: Mapping[str, tuple[str, argparse.ArgumentParser | None]]) -> str:
    """What the shell reads. `verbs`: a summary and the options of each."""
    import shtab

    root = argparse.ArgumentParser(prog="ladle")
    root.add_argument("--version", "-V", action="store_true", help="print the version")
    added = root.add_subparsers(dest="verb")
    for name, (summary, parser) in verbs.items():
        options = added.add_parser(name, help=summary, parents=[parser] if parser else [], add_help=parser is None)
        for action in _leaves(options):
            if action.metavar == "NAME" and not action.option_strings:
                action.complete = MODELS  # type: ignore[attr-defined]
            elif action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    text: str = shtab.complete(root, shell=shell, preamble=PREAMBLE)  # type: ignore[arg-type]
    return text


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _leaves(inner)
        else:
            yield action


def main(
    argv: Sequence[str] | None, verbs: Callable[[], Mapping[str, tuple[str, argparse.ArgumentParser | None]]]
) -> int:
    """Print the script; the exit code."""
    enable = "\n".join(f"  {shell:<5} {line}" for shell, line in ENABLE.items())
    parser = argparse.ArgumentParser(
        prog="ladle completion",
        description="Print what a shell reads to complete verbs, options, models and files.",
        epilog=f"to enable it:\n{enable}\n\nexample:\n  ladle completion bash",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=list(ENABLE))
    given = parser.parse_args(argv)
    print(script(given.shell, verbs()))
    if sys.stdout.isatty():
        print(f"# to enable it: {ENABLE[given.shell]}", file=sys.stderr)
    return 0
