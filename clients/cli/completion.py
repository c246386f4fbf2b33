"""Shell completion of every verb, its options and their values, written by shtab from the verbs' own parsers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ladle.clients.argument_types import Parser

ENABLE = {
    "bash": "ladle completion bash > ~/.local/share/bash-completion/completions/ladle",
    "zsh": 'ladle completion zsh > "${fpath[1]}/_ladle"    # a folder of $fpath; then: compinit',
    "fish": "ladle completion fish > ~/.config/fish/completions/ladle.fish",
    "tcsh": "ladle completion tcsh > ~/.ladle.tcsh && echo 'source ~/.ladle.tcsh' >> ~/.tcshrc",
}
MODELS = {
    "bash": "_ladle_models",
    "zsh": "_ladle_models",
    "fish": "(command ls model_repository 2>/dev/null)",
}
"""Completes the name of a served model."""
PREAMBLE = {
    # The models in the current folder's repository. Not `compgen -W`, which expands its words: it would run a folder
    # that is named like a command substitution.
    "bash": """_ladle_models() { (CDPATH= cd model_repository 2>/dev/null && compgen -d -- "$1"); }""",
    "zsh": '_ladle_models() { compadd -- ${(f)"$(command ls model_repository 2>/dev/null)"}; }',
}


TRAINED = ("networks", "train", "evaluate", "export")
"""Verbs whose NAME is a network, served or not."""


def of_verb(parser: argparse.ArgumentParser, verb: str) -> argparse.ArgumentParser:
    """The parser of one verb, if `parser` has several; otherwise `parser` itself."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and verb in action.choices:
            found: argparse.ArgumentParser = action.choices[verb]
            return found
    return parser


def script(
    shell: str, verbs: Mapping[str, tuple[str, argparse.ArgumentParser | None]], networks: Sequence[str] = ()
) -> str:
    """The script that the shell reads.

    verbs     the summary and parser of each; None where packages are missing
    networks  what can be trained, for the verbs whose NAME is a network
    """
    import shtab

    root = argparse.ArgumentParser(prog="ladle")
    root.add_argument("--version", "-V", action="store_true", help="print the version")
    added = root.add_subparsers(dest="verb")
    for name, (summary, parser) in verbs.items():
        options = added.add_parser(name, help=summary, parents=[parser] if parser else [], add_help=parser is None)
        for action in _leaves(options):
            action.choices = getattr(action, "values", action.choices)
            if action.metavar == "NAME" and (not action.option_strings or action.dest == "model"):
                if networks and name in TRAINED:
                    action.choices = networks
                else:
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
    argv: Sequence[str] | None,
    verbs: Callable[[], Mapping[str, tuple[str, argparse.ArgumentParser | None]]],
    networks: Callable[[], Sequence[str]],
) -> int:
    """Print the script; the exit code."""
    given = build_parser().parse_args(argv)
    print(script(given.shell, verbs(), networks()))
    if sys.stdout.isatty():
        print(f"# to enable it: {ENABLE[given.shell]}", file=sys.stderr)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Options of `ladle completion`."""
    enable = "\n".join(f"  {shell:<5} {line}" for shell, line in ENABLE.items())
    parser = Parser(
        prog="ladle completion",
        description="Print a script with which a shell completes verbs, options, models and files.",
        epilog=f"to enable it:\n{enable}\n\nexample:\n  ladle completion bash",
    )
    parser.add_argument("shell", choices=list(ENABLE))
    return parser
