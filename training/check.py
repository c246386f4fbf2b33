"""Command line of `python -m ladle.training.check`: can TensorFlow Serving load and run the exported versions?

This process has what `tensorflow_model_server` has: TensorFlow's own operations. Keras cannot be imported, and versions
are loaded as graphs into a session, never as Python objects.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ladle.training.arguments import Parser
from ladle.training.quiet import without_stderr

BLOCKED = ("keras", "tf_keras", "tensorflow_text", "tensorflow_addons")
"""Packages that can add operations or classes to TensorFlow; the server has none of them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit code: 0 if every version can be served, 1 if one cannot."""
    parser = Parser(
        prog="python -m ladle.training.check",
        description="Load every version of a model repository as TensorFlow Serving does, list its operations and "
        "answer its warm-up requests. Made-up inputs are never run.",
        epilog="examples:\n  python -m ladle.training.check model_repository\n"
        "  python -m ladle.training.check /models --json",
    )
    parser.add_argument("repository", type=Path, help="model repository: holds <name>/<version>/")
    parser.add_argument("--list", action="store_true", help="print the name of every operation")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    for name in BLOCKED:
        sys.modules[name] = None  # type: ignore[assignment]  # makes every import of it fail
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the import: TensorFlow logs its start-up otherwise
    with without_stderr():
        from ladle.training.export.tfserving_check import check

    versions = sorted({path.parent for path in arguments.repository.glob("*/*/saved_model.pb*")})
    if not versions:
        print(f"check: {arguments.repository} holds no <name>/<version>/saved_model.pb", file=sys.stderr)
        return 1
    found = {}
    for version in versions:
        with without_stderr():
            result = found[f"{version.parent.name}/{version.name}"] = check(version)
        if not arguments.json:
            print(f"{version.parent.name} version {version.name}: {result}")
            if arguments.list:
                print(f"  {' '.join(result.operations)}")
            for fault in result.faults:
                print(f"  {fault}")
    if arguments.json:
        print(json.dumps({name: dataclasses.asdict(result) for name, result in found.items()}, indent=1))
    return 1 if any(result.faults for result in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
