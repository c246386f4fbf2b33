"""Command line of `ladle convert`: add verified ONNX graphs to any SavedModel."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ladle.training.arguments import Parser
from ladle.training.quiet import importing_tensorflow

if TYPE_CHECKING:
    from ladle.training.export.conversion import Conversion


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit code: 0 if serving_default has a graph, 1 if not."""
    arguments = build_parser().parse_args(argv)
    with importing_tensorflow():
        from ladle.training.export.conversion import ConvertError, convert

    try:
        result = convert(arguments.directory)
    except ConvertError as error:
        print(f"ladle convert: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({**dataclasses.asdict(result), "folder": str(result.folder), "done": result.done}, indent=1))
    else:
        _print(result)
    return 0 if result.done else 1


def build_parser() -> argparse.ArgumentParser:
    """Options of `ladle convert`."""
    parser = Parser(
        prog="ladle convert",
        description="Add verified ONNX graphs and a model card to a SavedModel.",
        epilog="example:\n  ladle convert /models/my_model",
    )
    parser.add_argument("directory", type=Path, help="folder of a version, or of a model for its newest version")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _print(result: Conversion) -> None:
    print(result.folder)
    width = max(map(len, [*result.graphs, *result.reasons]), default=0)
    for name, file in result.graphs.items():
        parity = result.parity[name]
        print(f"  {name:{width}}  {file}: {parity['inputs']} inputs, largest difference {parity['max_abs']:.1e}")
    for name, reason in result.reasons.items():
        print(f"  {name:{width}}  not converted: {reason}")


if __name__ == "__main__":
    sys.exit(main())
