"""`ladle data`: list the data sets, fetch one, or write one as files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ladle.clients.argument_types import Parser

ACTIONS: dict[str, tuple[str, ...]] = {"list": (), "get": ("NAME",), "write": ("NAME", "DIR")}


def main(arguments: Sequence[str]) -> int:
    """Run one action; the exit code."""
    parser = build_parser()
    given = parser.parse_args(arguments)
    if (given.name is not None) + (given.folder is not None) != len(ACTIONS[given.verb]):
        parser.error(f"`{given.verb}` takes {' and '.join(ACTIONS[given.verb]) or 'no name'}")
    if given.verb == "write" and given.json:
        parser.error("`write` has no --json; `list` and `get` have")
    from ladle.training.data import commands

    if given.verb == "write":
        return commands.write(given.name, given.folder, source=given.source)
    if given.verb == "get":
        return commands.get(given.name, source=given.source, json=given.json)
    return commands.list_datasets(json=given.json)


def build_parser() -> argparse.ArgumentParser:
    """Options of `ladle data`."""
    parser = Parser(
        prog="ladle data",
        description="List the data sets: what each holds, where it comes from, and whether it is on this machine.\n"
        "Or fetch one, or write its pictures as files, in the folders that your own pictures would have.",
        epilog="examples:\n  ladle data\n  ladle data --json\n  ladle data get fashion_mnist\n"
        "  ladle data write brain_slices slices",
    )
    parser.add_argument("verb", nargs="?", choices=list(ACTIONS), default="list", help="default: %(default)s")
    parser.add_argument("name", nargs="?", help="data set to get or write")
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="folder to write; it must not exist yet")
    parser.add_argument("--source", help="debian, pypi, npm or original (default: the first that has it)")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    return parser
